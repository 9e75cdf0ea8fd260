"""What every client is: its arguments, its resources, its hooks and what it takes from its surroundings."""

"""What the emulated service does with a request, one file a resource."""

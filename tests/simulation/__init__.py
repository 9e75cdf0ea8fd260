"""A client and its server in one process and in virtual time: no I/O, no threads, all chance from one seed.

`network` is the world between the two and everything that goes wrong there, `oracle` knows what the client's
core must do, `world` lets a seed's workload loose on both. `python -m tests.simulation --seeds 10000` runs
many; `--seed N` repeats one.

The three drivers are held against the same core: `scenario` is one script of inputs and answers, played by
the simulation and by each driver on a clock of its own kind (`asyncio_clock`, `thread_clock`, trio's).
"""

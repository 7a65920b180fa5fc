"""`make gpu-check`: parity, speed, search, service and memory on a GPU, as one table and one JSON.

It needs the packages of `deploy/locks/gpu.txt` and exported networks, both of which `make gpu-bundle` collects, and
nothing from a network. With `--device cpu` it runs every step on the CPU, to check itself; the figures mean nothing.
"""

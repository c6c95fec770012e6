"""Machines that can be destroyed: real daemons and real trainings on one computer.

The demo, the soak and the end-to-end tests stand on it. A machine here is a directory (its
disk), a tree of processes (its life) and a metadata service of its own.
"""

"""The real programs that tests talk to: found, started with private state, and stopped by process
id.
"""

"""The command line: run, export, doctor."""

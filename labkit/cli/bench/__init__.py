"""What `labkit bench` measures: each thing against a yardstick, in turn, in one run."""

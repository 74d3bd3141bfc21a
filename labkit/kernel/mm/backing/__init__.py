"""What is behind a mapping that is not anonymous: files, huge pages, devices, neighbours."""

"""virtio-blk: a request becomes a chain of descriptors in a ring that driver and device share."""

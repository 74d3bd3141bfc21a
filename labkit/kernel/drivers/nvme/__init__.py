"""nvme-pci: a request becomes 64 bytes in a submission queue that say where its memory is."""

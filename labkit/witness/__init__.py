"""Model against kernel: the same question to both, and what they disagree on."""

"""Physical ranges become device addresses. Timeless: each call says what it did, and the driver pays."""

"""What is remembered: plain records, and what can be told from them alone."""

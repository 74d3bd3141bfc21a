"""What must hold of the machine at every instant, worked out anew from what is there, never from what was counted."""

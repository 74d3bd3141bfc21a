"""What flows: frozen values, one file per currency."""

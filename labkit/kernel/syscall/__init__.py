"""System calls: arguments are checked in the kernel's order, and a Kiocb goes down."""

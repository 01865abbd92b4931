"""What frameworks want to see of a key."""

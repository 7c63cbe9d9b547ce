"""What the project promises in figures, measured on the machine at hand; never run by the tests."""

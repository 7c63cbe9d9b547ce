"""Generated messages and stubs of the wire contract, package prediction.v1."""

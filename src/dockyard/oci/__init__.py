"""The values of the OCI and Docker specifications, without I/O."""

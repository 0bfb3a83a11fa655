"""A private container registry on docker-distribution's own tree."""

"""The training stages of the published systems: a recipe in, a file out that `segment` takes."""

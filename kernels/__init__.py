"""argan.kernels: differentiable aperture rendering, written once and run by PyTorch or Triton."""

if "." not in __name__:  # the folder at the repository root, imported by its bare name
    raise ImportError("import argan.kernels, not kernels: the same operations would be registered twice")

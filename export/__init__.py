"""argan.export: what was trained, written to ONNX and TorchScript, and verified."""

if "." not in __name__:
    raise ImportError("import argan.export, not export")

"""The engines that `export --engine` takes; it imports nothing, because the command line needs it without torch."""

AUTO, FASTEST = "auto", "fastest"
TORCHSCRIPT = ("onednn", "fbgemm", "xnnpack", "qnnpack", "edge")
ONNX_RUNTIME = "onnxruntime"
ENGINE_NAMES = (*TORCHSCRIPT, ONNX_RUNTIME)

"""The engines that `export --engine` takes, and for how long it times each; imports nothing, so no torch either."""

AUTO, FASTEST = "auto", "fastest"
TORCHSCRIPT = ("onednn", "fbgemm", "xnnpack", "qnnpack", "edge")
ONNX_RUNTIME = "onnxruntime"
SYNONYMS = {"torchscript": AUTO}  # as `models list` and install.sh call the engine of all its kernels
ENGINE_NAMES = (*TORCHSCRIPT, ONNX_RUNTIME)
TIMING_S = 3.0  # for each engine that is compared

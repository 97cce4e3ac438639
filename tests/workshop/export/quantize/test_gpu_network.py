"""Tests a Jetson's bundle as far as possible without a GPU: the graph, its ONNX form, the FP16 module, the engines."""

import io
import sys
import warnings
from pathlib import Path

import pytest
import torch

from edge.cli import main
from edge.errors import BundleError
from edge.photos.decode import read_photo
from edge.settings.schema import ModelSettings
from edge.vision.bundle import load_bundle
from edge.vision.classifier import Classifier
from edge.vision.engines import cuda
from edge.vision.engines.cuda import load_tensorrt_runtime
from edge.workshop.export.exporter import export_bundle
from edge.workshop.export.judge import agreement as judge
from edge.workshop.export.judge.agreement import correlation
from edge.workshop.export.judge.views import GOLDEN_PHOTO
from edge.workshop.export.network.float_network import FloatConv, FloatNetwork
from edge.workshop.export.quantize.gpu_network import GpuNetwork, NoEngineError, Precision, RawPixels, tensorrt_engine
from edge.workshop.export.quantize.ranges import data_free_ranges
from edge.workshop.export.weights.state_dict import Weights
from tests.workshop.export.processor import Processor

pytestmark = pytest.mark.timeout(300)


def probabilities(network: FloatNetwork, features: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.linear(features, *network.head.linear).softmax(1)


def test_fp16_answers_like_fp32(network: FloatNetwork, golden: torch.Tensor) -> None:
    """On the processor, whose FP16 is slow but as exact as a GPU's."""
    half = RawPixels(GpuNetwork(network, None, lambda weight: weight.half()), torch.float16)
    with torch.inference_mode():
        answer, expected = probabilities(network, half(golden))[0], network(golden)[0]
    assert answer.dtype == torch.float32
    assert float((answer - expected).abs().max()) < 0.01
    assert correlation(answer, expected) > 0.999


def test_the_graph_is_the_same_in_onnx_runtime(network: FloatNetwork, golden: torch.Tensor) -> None:
    """ONNX Runtime, an independent reader of explicit quantization, gives the same answer."""
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    explicit = GpuNetwork(network, data_free_ranges(network)).eval()
    pixels, file = golden.permute(0, 3, 1, 2).float().contiguous(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's older exporter, which keeps fake quantization, is deprecated
        torch.onnx.export(
            explicit, (pixels,), file, opset_version=13, dynamo=False, do_constant_folding=False, input_names=["pixels"]
        )
    model = onnx.load_from_string(file.getvalue())
    onnx.checker.check_model(model)
    kinds = [node.op_type for node in model.graph.node]
    convolutions = sum(isinstance(operation, FloatConv) for operation in network.operations)
    assert kinds.count("Conv") == convolutions
    # Every weight except the first convolution's, and every activation.
    assert kinds.count("QuantizeLinear") == kinds.count("DequantizeLinear") >= convolutions - 1 + convolutions
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"pixels": pixels.numpy()})
    with torch.inference_mode():
        expected = probabilities(network, explicit(pixels)).numpy()
        answer = probabilities(network, torch.from_numpy(answer)).numpy()
    assert answer[0].argmax() == expected[0].argmax()
    # Its kernels compute in integers and round in other places than the graph, which computes in floats.
    assert correlation(torch.from_numpy(answer[0]), torch.from_numpy(expected[0])) > 0.99


@pytest.mark.parametrize(
    ("tensorrt", "precision"),
    [(True, "auto"), (False, "auto"), (True, "fp16")],
    ids=["with TensorRT", "without", "with TensorRT that its owner does not want"],
)
def test_a_jetsons_bundle_is_made_and_runs(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tensorrt: bool, precision: Precision
) -> None:
    steps: list[str] = []
    gpu = Processor(tensorrt=tensorrt)
    exported = export_bundle(
        weights,
        tmp_path / "models",
        target="jetson",
        precision=precision,
        # Symmetric INT8 agrees on 93.8 % of the shipped views for EfficientNet-Lite0 (98.5 % of 260 photos).
        min_agreement=90,
        open_gpu=lambda: gpu,
        step=steps.append,
    )
    if precision == "fp16":
        assert gpu.given is None
    else:
        assert gpu.given is not None
        assert "fake_quantize_per_channel" in str(gpu.given.graph)  # TensorRT has to see the weights' scales
    bundle = load_bundle(exported.directory)
    manifest = bundle.manifest
    assert manifest.target == "jetson"
    if gpu.given is not None and tensorrt:
        assert (manifest.precision, str(manifest.engine)) == ("int8", "cuda tensorrt")
        assert manifest.quantization is not None
        assert manifest.quantization.activations == "int8"
    else:
        assert (manifest.precision, str(manifest.engine), manifest.quantization) == ("fp16", "cuda cuda", None)
        assert ("TensorRT is broken, so this is FP16 instead of INT8" in "".join(steps)) == (precision == "auto")
        assert exported.to_table().startswith(" " * 10)
    assert bundle.name.startswith(f"{weights.architecture}-{manifest.precision}-")
    opened: list[str] = []

    def open_processor(kernels: str) -> str:
        """Accepts the bundle without the checks that it is for this machine."""
        opened.append(kernels)
        return "cpu"

    with monkeypatch.context() as patched:
        patched.setattr(cuda, "open_gpu", open_processor)
        classifier = Classifier(bundle, ModelSettings(device="cuda"))
    answer = classifier.predict(read_photo(GOLDEN_PHOTO)).probabilities
    assert int(answer.argmax()) == manifest.golden[0].index
    assert opened == [manifest.engine.options["kernels"]]
    with pytest.raises(BundleError, match=r"runs on a GPU only; set model\.device to auto"):
        Classifier(bundle, ModelSettings(device="cpu"))
    if not torch.cuda.is_available():
        with pytest.raises(BundleError, match="is for a GPU, and torch sees none"):
            Classifier(bundle, ModelSettings())


def test_fp16_that_is_refused_is_not_called_int8(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "GOLDEN_MIN_CORRELATION", 2.0)
    with pytest.raises(BundleError, match=r"^FP16 does not follow FP32 on the golden photo") as refused:
        export_bundle(
            weights, tmp_path / "models", target="jetson", precision="fp16", open_gpu=lambda: Processor(tensorrt=True)
        )
    assert "calibrate" not in str(refused.value)


def test_who_insists_on_int8_or_fp16_gets_nothing_else(weights: Weights, tmp_path: Path) -> None:
    gpu = Processor(tensorrt=False)
    with pytest.raises(BundleError, match=r"TensorRT is broken; fix that, or export with --precision fp16\."):
        export_bundle(weights, tmp_path, target="jetson", precision="int8", open_gpu=lambda: gpu)
    with pytest.raises(BundleError, match=r"FP16 is for a Jetson's GPU; add --target jetson"):
        export_bundle(weights, tmp_path, precision="fp16")
    assert list(tmp_path.iterdir()) == []


COMPILE = "Input = lambda *_, **__: None\ndef compile(*_, **__): raise {}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "Torch-TensorRT is not installed"),
        ("raise OSError('libnvinfer.so.10: cannot open shared object file.')", "fails (libnvinfer.so.10: cannot open"),
        ("", "fails (module 'torch_tensorrt' has no attribute"),
        (COMPILE.format("RuntimeError('[Error thrown at builder]\\nand 40 lines more')"), "fails ([Error thrown at b"),
        (COMPILE.format("TypeError"), "fails (TypeError)"),
    ],
    ids=["not there", "a library is missing", "of another version", "no engine", "wordless"],
)
def test_a_torch_tensorrt_that_does_not_work_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, reason: str
) -> None:
    """A package of that name that fails as NVIDIA's may; the real one does not run on this machine."""
    if content is not None:
        (tmp_path / "torch_tensorrt.py").write_text(content, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
    traced = torch.jit.ScriptModule()
    try:
        with pytest.raises(NoEngineError) as failed:
            tensorrt_engine(traced, torch.zeros(1, 3, 4, 4))
    finally:
        sys.modules.pop("torch_tensorrt", None)
    assert reason in failed.value.reason
    assert "\n" not in str(failed.value)
    assert str(failed.value).endswith("or export with --precision fp16.")


def test_a_runtime_that_is_missing_or_does_not_load_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "torch_tensorrt/lib/libtorchtrt_runtime.so"
    with pytest.raises(BundleError, match=r"is not installed; install torch-tensorrt, or export .* --precision fp16\."):
        load_tensorrt_runtime()
    library.parent.mkdir(parents=True)
    (library.parents[1] / "__init__.py").touch()
    library.write_bytes(b"no library")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BundleError, match=r"cannot be loaded \(.*libtorchtrt_runtime\.so: .*\); install"):
        load_tensorrt_runtime()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_export_says_where_to_go(
    weights_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", "--weights", str(weights_file), "--output", str(tmp_path / "models"), "--target", "jetson"]
    assert main(arguments) == 65
    assert "is made on the Jetson, and torch sees no GPU here; export it there." in capsys.readouterr().err

"""Trunks that `export` has made: each is loaded by its engine and timed in turn, and the fastest sound one is kept."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from edge.board import host
from edge.errors import BundleError
from edge.events import Probabilities
from edge.frames import Pixels
from edge.vision.engines import engine_of
from edge.vision.engines.engine import Session
from edge.vision.head import Head
from edge.vision.manifest import Agreement, GoldenClass, Manifest, Measured
from edge.vision.manifest import Candidate as Row
from edge.workshop.export.judge.agreement import Judged, measure_agreement, refuse_below, verify_golden
from edge.workshop.export.network.float_network import FloatNetwork
from edge.workshop.export.quantize.ranges import Range
from edge.workshop.export.recipes import Recipe, Refused
from edge.workshop.timing import inference_ms

ROUNDS = 5  # interleaved, so that other work on the board disturbs all alike
LEAST = 3  # in a round, however slow the board is
FAR_SLOWER = 3.0  # times the fastest's best inference: not measured any more, nor compared with FP32
CLEARLY_FASTER = 0.97  # of the usual engine's time; less is within what two runs differ by


@dataclass
class Candidate:
    """A trunk, loaded by its engine, with the head behind it; `reason` says why it is not to be chosen."""

    name: str
    manifest: Manifest  # lacks the files, the golden photo's answers and the agreement
    file: str
    trunk: bytes
    session: Session
    head: Head
    use: Callable[[], None] = lambda: None
    times_ms: list[float] = field(default_factory=list)
    golden: tuple[GoldenClass, ...] = ()
    agreement: Agreement | None = None
    agrees: bool = False
    reason: str = ""

    def __call__(self, buffer: Pixels) -> Probabilities:
        """Probabilities, (classes,), of a buffer."""
        self.use()
        return self.head.probabilities(self.session.infer(buffer))

    @property
    def ms(self) -> float | None:
        """The median of an inference; None: it was not timed."""
        return round(statistics.median(self.times_ms), 3) if self.times_ms else None


def make_candidate(
    recipe: Recipe,
    draft: Manifest,
    network: FloatNetwork,
    ranges: Mapping[str, Range],
    buffer: Pixels,
    threads: int,
) -> Candidate:
    """Make and load one trunk.

    Raises:
        BundleError: the engine cannot make or run it here.
    """
    assert draft.quantization is not None
    quantization = draft.quantization.model_copy(
        update={"activations": recipe.activations, "small_pairs": recipe.small_pairs}
    )
    manifest = draft.model_copy(update={"engine": recipe.engine, "target": recipe.target, "quantization": quantization})
    engine = engine_of(manifest)
    recipe.use()
    trunk = recipe.make(network, ranges, buffer)
    session = engine.load(manifest, {"trunk": trunk}, threads)
    return Candidate(recipe.name, manifest, recipe.file, trunk, session, head_of(network), recipe.use)


def head_of(network: FloatNetwork) -> Head:
    """The head of a network, which no engine quantizes."""
    weight, bias = network.head.linear
    return Head(weight.numpy(), bias.numpy())


def time_in_turns(candidates: Sequence[Candidate], buffer: Pixels, seconds: float) -> None:
    """Time each candidate for `seconds`; one that is far slower than another is timed in the first round only."""
    running, slow = list(candidates), []
    for _ in range(ROUNDS):
        for candidate in running:
            candidate.use()
            infer = partial(candidate.session.infer, buffer)
            candidate.times_ms += inference_ms(infer, seconds / ROUNDS, LEAST)
        # By the best inference of each, because other work on the board may hit one candidate's round alone.
        limit = FAR_SLOWER * min(min(candidate.times_ms) for candidate in running)
        slow += [candidate for candidate in running if min(candidate.times_ms) > limit]
        running = [candidate for candidate in running if min(candidate.times_ms) <= limit]
    fastest = min(candidate.ms or 0.0 for candidate in running)
    for candidate in slow:
        candidate.reason = f"takes {(candidate.ms or 0.0) / fastest:.1f} times as long"


def judge(
    candidates: Sequence[Candidate],
    network: FloatNetwork,
    golden: Pixels,
    buffers: Iterable[Pixels],
    given: int,
    min_agreement: float,
    judged: Judged,
) -> None:
    """Compare the candidates that may be chosen with FP32; sets what is found, and the reason where one disagrees.

    Args:
        candidates: those with a reason are left out.
        network: FP32.
        golden: the golden photo's buffer.
        buffers: as for `measure_agreement`.
        given: as for `measure_agreement`.
        min_agreement: percent; see `refuse_below`.
        judged: the precision, for messages.
    """
    for one in candidates:
        if not one.reason:
            try:
                one.golden = verify_golden(one, network, golden, judged)
            except BundleError as error:
                one.reason = str(error)
    sound = [one for one in candidates if not one.reason]
    if not sound:
        return
    for one, agreement in zip(sound, measure_agreement(sound, network, buffers, given), strict=True):
        one.agreement = agreement
        try:
            refuse_below(min_agreement, agreement, judged)
            one.agrees = True
        except BundleError as error:
            one.reason = str(error)


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The fastest candidate without a reason against it; sets the reason of the others.

    The first one is the usual one: another has to be clearly faster.

    Raises:
        BundleError: there is none; the message is about the fastest.
    """
    sound = sorted((one for one in candidates if not one.reason), key=lambda one: one.ms or 0.0)
    if not sound:
        raise BundleError(min(candidates, key=lambda one: one.ms or 0.0).reason)
    chosen, usual = sound[0], candidates[0]
    if not usual.reason and (chosen.ms or 0.0) > CLEARLY_FASTER * (usual.ms or 0.0):
        chosen = usual
    for other in sound:
        if other is not chosen:
            ratio = (other.ms or 0.0) / (chosen.ms or 1.0)
            other.reason = f"takes {ratio:.1f} times as long" if ratio >= 1.05 else "takes about as long"
    return chosen


def measured(
    chosen: Candidate, candidates: Sequence[Candidate], refused: Sequence[Refused], threads: int
) -> Measured | None:
    """What the manifest records of the comparison; None if nothing was timed."""
    if chosen.ms is None:
        return None
    rows = [
        Row(
            engine=one.manifest.engine.name,
            options=one.manifest.engine.options,
            ms=one.ms,
            agrees=one.agrees,
            reason=one.reason,
        )
        for one in candidates
    ]
    rows += [Row(engine=one.engine.name, options=one.engine.options, reason=one.reason) for one in refused]
    return Measured(ms=chosen.ms, threads=threads, board=host.board(), candidates=tuple(rows))

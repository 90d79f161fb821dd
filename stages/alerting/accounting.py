"""Nothing lost silently: for every run, decoded = scored + gaps by cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from stages.messages import End, Fused, Gap, Span

GAP_FRAMES = 4096
"""Most frames of one gap message that this stage makes: a worker that was away for a day must not make a giant one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What became of the frames of one run."""

    camera: str
    run_ms: int
    live: bool
    decoded: int = 0
    """Frames known to be decoded: seen or skipped so far, what `End` says when complete."""
    scored: int = 0
    provisional: int = 0
    """Frames of `scored` that were scored in a warm-up: shown, never alerted on."""
    gaps: Mapping[str, int] = field(default_factory=dict)
    """cause -> frames that were not scored."""
    gap_counts: Mapping[str, int] = field(default_factory=dict)
    """cause -> how often."""
    down_s: float = 0.0
    """Seconds without a connection just before this run."""
    seconds: float = 0.0
    """From the first frame to the end of the last."""
    status: str = ""
    """As `End` says (`complete`, `truncated: ...`); empty while running, `ended` where a new run showed that it had."""
    complete: bool = False
    """The run is over and its last frame accounted for."""

    @property
    def balanced(self) -> bool:
        """True if every decoded frame was scored or is in a gap."""
        return self.decoded == self.scored + sum(self.gaps.values())

    def as_dict(self) -> dict:
        """JSON-able, with `balanced`."""
        return asdict(self) | {"balanced": self.balanced}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """An account being kept, and where in its run it stands."""

    account: Account
    seq: int = -1
    """Of the last message published in this run."""
    next_frame: int = 0
    last_s: float = 0.0
    """Time of the last frame, seconds in the run."""
    step_s: float = 0.04
    """From the last frame but one to the last; 25 fps until two are known."""

    def scored(self, fused: Fused, frames: int) -> Ledger:
        """With a span of which `frames` were scored; the rest of it is a gap that `failed`."""
        ledger = self._passed(fused)
        account = ledger.account
        provisional = account.provisional + (frames if fused.provisional else 0)
        account = replace(account, scored=account.scored + frames, provisional=provisional)
        missed = len(fused.times_s) - frames
        return replace(ledger, account=_with_gap(account, "failed", missed) if missed else account)

    def skipped(self, gap: Gap) -> Ledger:
        """With the frames of a gap."""
        ledger = self._passed(gap)
        return replace(ledger, account=_with_gap(ledger.account, gap.cause, len(gap.times_s)))

    def ended(self, end: End) -> Ledger:
        """The run is over, as its source says, which also says how many frames it decoded."""
        account = replace(self.account, decoded=end.first_frame, status=end.status, complete=True)
        return replace(self, account=account, seq=end.seq)

    def abandoned(self, decoded: int | None) -> Ledger:
        """The run is over because another began; `decoded` frames if that is known."""
        frames = self.next_frame if decoded is None else decoded
        account = replace(self.account, decoded=frames, status="ended", complete=decoded is not None)
        return replace(self, account=account)

    def outage(self, down_s: float) -> Gap:
        """The seconds without a connection after this run, as a gap of no frames that follows its last message."""
        account = self.account
        return Gap(
            camera=account.camera,
            run_ms=account.run_ms,
            seq=self.seq + 1,
            first_frame=account.decoded,
            times_s=np.empty(0),
            live=account.live,
            cause="disconnected",
            detail=f"down {down_s:.1f} s",
        )

    def _passed(self, span: Span) -> Ledger:
        if span.first_frame < self.next_frame:
            raise ValueError(
                f"{span.camera} {span.id}: frame {span.first_frame} comes again (next is {self.next_frame}); "
                "were two decoders writing to this camera?"
            )
        if not len(span.times_s):
            return replace(self, seq=span.seq)
        last_s, before_s = float(span.times_s[-1]), self.last_s
        if len(span.times_s) > 1:
            before_s = float(span.times_s[-2])
        # The very first frame has none before it, and a clock that steps back measures nothing.
        step_s = last_s - before_s if span.next_frame > 1 and last_s > before_s else self.step_s
        account = replace(self.account, decoded=span.next_frame, seconds=last_s + step_s, live=span.live)
        return Ledger(account=account, seq=span.seq, next_frame=span.next_frame, last_s=last_s, step_s=step_s)


def _with_gap(account: Account, cause: str, frames: int) -> Account:
    gaps = {**account.gaps, cause: account.gaps.get(cause, 0) + frames}
    counts = {**account.gap_counts, cause: account.gap_counts.get(cause, 0) + 1}
    return replace(account, gaps=gaps, gap_counts=counts)


def lost_before(ledger: Ledger, span: Span) -> list[Gap]:
    """The gaps (`behind`) for frames between the ledger and a message of its run, with the ids right before its id.

    Their times are interpolated. Where no id is free (a decoder that skips frames without skipping a seq breaks the
    rules), the one gap has the id of the message itself: to be accounted for, not to be published.
    """
    frames = span.first_frame - ledger.next_frame
    if frames <= 0:
        return []
    if isinstance(span, End) or not len(span.times_s):
        times_s = _extrapolated(ledger, frames)
    elif ledger.next_frame:
        until_s = max(ledger.last_s, float(span.times_s[0]))
        times_s = np.linspace(ledger.last_s, until_s, frames + 2)[1:-1]
    else:
        times_s = np.linspace(0.0, float(span.times_s[0]), frames + 1)[:-1]
    free = span.seq - ledger.seq - 1
    pieces = min(-(-frames // GAP_FRAMES), max(free, 1))
    return _behind(ledger, times_s, pieces, span.seq - min(pieces, free), "dropped before they were scored")


def lost_at_end(ledger: Ledger, decoded: int) -> list[Gap]:
    """The gaps (`behind`) up to the `decoded` frames of a run that is over; their ids follow its last message."""
    frames = decoded - ledger.next_frame
    if frames <= 0:
        return []
    pieces = -(-frames // GAP_FRAMES)
    return _behind(ledger, _extrapolated(ledger, frames), pieces, ledger.seq + 1, "dropped at the end of the run")


def _extrapolated(ledger: Ledger, frames: int) -> np.ndarray:
    ahead = np.arange(frames) + (1 if ledger.next_frame else 0)
    return ledger.last_s + ledger.step_s * ahead


def _behind(ledger: Ledger, times_s: np.ndarray, pieces: int, first_seq: int, detail: str) -> list[Gap]:
    gaps: list[Gap] = []
    first_frame = ledger.next_frame
    for number, piece in enumerate(np.array_split(times_s, pieces)):
        account = ledger.account
        gaps.append(
            Gap(
                camera=account.camera,
                run_ms=account.run_ms,
                seq=first_seq + number,
                first_frame=first_frame,
                times_s=piece,
                live=account.live,
                cause="behind",
                detail=detail,
            )
        )
        first_frame += len(piece)
    return gaps

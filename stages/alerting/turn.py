"""One message's way through alerting: the memory before it, what it brings about, the memory after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from stages.alerting.accounting import Account, Ledger, lost_at_end, lost_before
from stages.alerting.alert import Alert, severity_of, wall_clock
from stages.alerting.calibration import calibrate
from stages.alerting.events import EPSILON_S, EventState, FrameScore, PhaseChange, advance, finish
from stages.alerting.fusion import expand, fuse
from stages.alerting.saved_state import AlertingState, PeakThumb
from stages.alerting.settings import AlertSettings
from stages.messages import End, Fused, Gap, Prior, Scores, Span


class Transition:
    """Collects messages, alerts and closed accounts while a memory moves on. Lives for one call."""

    def __init__(self, settings: AlertSettings, config_hash: str, memory: AlertingState) -> None:
        self.messages: list[Fused | Gap | End] = []
        self.alerts: list[Alert] = []
        self.closed: list[Account] = []
        self._settings, self._config_hash = settings, config_hash
        self._before = memory
        self._ledger = memory.ledger or Ledger(account=Account(camera="", run_ms=-1, live=False))
        self._watch, self._evidence, self._hashes = memory.watch, memory.evidence, dict(memory.hashes)

    def memory(self) -> AlertingState:
        """What is known now."""
        return AlertingState(self._ledger, self._watch, self._evidence, self._hashes)

    def open_run(self, span: Span) -> None:
        """Make sure that the ledger is of the span's run; what came before it is closed."""
        old_ms = self._ledger.account.run_ms
        if old_ms == span.run_ms:
            return
        if self._before.ledger:
            self._leave_run(span, span.prior)
        # A camera that reconnects every few seconds must not escape its cool-down. (Files have no common clock.)
        quiet_s = self._watch.quiet_until_s - (span.run_ms - old_ms) / 1000
        self._watch = EventState(quiet_until_s=max(quiet_s, 0.0)) if span.live else EventState()
        account = Account(camera=span.camera, run_ms=span.run_ms, live=span.live)
        if span.prior and span.prior.down_s > 0:
            lost = {"disconnected": 0}, {"disconnected": 1}
            account = replace(account, down_s=span.prior.down_s, gaps=lost[0], gap_counts=lost[1])
        self._ledger, self._evidence, self._hashes = Ledger(account=account), PeakThumb(), {}

    def _leave_run(self, span: Span, prior: Prior | None) -> None:
        if not self._ledger.account.status:
            known = prior is not None and prior.run_ms == self._ledger.account.run_ms
            self._close_run(prior.frames if prior and known else None)
        if prior and self._ledger.account.run_ms < prior.run_ms < span.run_ms:  # of which nothing arrived at all
            self._ledger = Ledger(account=Account(camera=span.camera, run_ms=prior.run_ms, live=span.live))
            self._close_run(prior.frames)
        if prior and prior.down_s > 0:
            # The new run's ids all belong to its frames, so this one follows the old run's.
            self.messages.append(self._ledger.outage(prior.down_s))

    def _close_run(self, decoded: int | None) -> None:
        for gap in lost_at_end(self._ledger, decoded or 0):
            self.skip(gap)
        self._finish_events()
        self._ledger = self._ledger.abandoned(decoded)
        self.closed.append(self._ledger.account)

    def catch_up(self, span: Span) -> None:
        """Account for the frames between the last message and this one."""
        for gap in lost_before(self._ledger, span):
            self.skip(gap, publish=gap.seq < span.seq)

    def skip(self, gap: Gap, publish: bool = True) -> None:
        """Frames without a score."""
        self._ledger = self._ledger.skipped(gap)
        if publish:
            self.messages.append(gap)
        if not len(gap.times_s):
            return
        times_s = np.maximum.accumulate(gap.times_s)
        # A gap can be a day. Where no event is open only what may still be remembered at its end matters.
        remembered_s = times_s[-1] - self._settings.min_length_s - 2 * EPSILON_S
        tail = int(np.searchsorted(times_s, remembered_s)) - 1
        for i, time_s in enumerate(times_s.tolist()):
            if self._watch.event or i >= tail:
                self._see(FrameScore(gap.first_frame + i, time_s, None), b"")

    def end(self, end: End) -> None:
        """The run is over."""
        self._finish_events()
        self._ledger = self._ledger.ended(end)
        self.messages.append(end)
        self.closed.append(self._ledger.account)

    def score(self, scores: Mapping[str, Scores]) -> None:
        """Frames with scores. Where no model gives a finite one, a frame is a gap that `failed`."""
        fused = self._fused(scores)
        scored = int(np.isfinite(fused.score).sum())
        if not scored:
            self.skip(Gap(**Span.header(fused), cause="failed", detail="no model gave a finite score"))
            return
        self._ledger = self._ledger.scored(fused, scored)
        self.messages.append(fused)
        thumb = next((s.thumb for s in scores.values() if s.thumb), b"")
        columns = {name: column.tolist() for name, column in fused.calibrated.items()}
        for i, (time_s, score) in enumerate(zip(fused.times_s.tolist(), fused.score.tolist(), strict=True)):
            frame = fused.first_frame + i
            if fused.provisional or np.isnan(score):
                self._see(FrameScore(frame, time_s, None), b"")
            elif score < self._settings.clear_at:  # nothing asks for the models of such a frame
                self._see(FrameScore(frame, time_s, score), b"")
            else:
                models = {name: column[i] for name, column in columns.items() if not np.isnan(column[i])}
                self._see(FrameScore(frame, time_s, score, models), thumb)

    def _fused(self, scores: Mapping[str, Scores]) -> Fused:
        first = next(iter(scores.values()))
        frames = len(first.times_s)
        self._hashes |= {name: s.model_hash for name, s in scores.items()}
        absent = np.full(frames, np.nan, np.float32)
        raw = {name: absent for name in sorted(self._hashes)}
        calibrated: dict[str, np.ndarray] = dict(raw)
        for name, s in sorted(scores.items()):
            raw[name] = expand(s.raw, s.picked, frames)
            calibrated[name] = expand(calibrate(s.raw, s.reference), s.picked, frames)
        # A model that warms up decides nothing as long as one that does not is there.
        weights = self._settings.weights
        voters = [name for name in scores if weights.get(name, 1.0) > 0] or list(scores)
        settled = [name for name in voters if not scores[name].provisional]
        score = fuse({name: calibrated[name] for name in settled or voters}, self._settings.fusion, weights)
        return Fused(
            **Span.header(first),
            score=score.astype(np.float32),
            raw=raw,
            calibrated={name: column.astype(np.float32) for name, column in calibrated.items()},
            provisional=not settled,
        )

    def _see(self, moment: FrameScore, thumb: bytes) -> None:
        """Give events their next frame; an alert's picture is that of its own frames, not of one that comes after."""
        before, after = self._evidence, self._better(self._evidence, moment, thumb)
        self._watch, changes = advance(self._watch, moment, self._settings, self._ledger.account.live)
        for change in changes:
            own = after if change[1].end_frame == moment.frame else before
            self.alerts.append(self._alert(change, own.jpeg))
            if change[0] == "close":
                after = PeakThumb() if own is after else self._better(PeakThumb(), moment, thumb)
        self._evidence = PeakThumb() if self._watch.is_idle(self._settings) else after

    def _better(self, evidence: PeakThumb, moment: FrameScore, thumb: bytes) -> PeakThumb:
        if not thumb or moment.score is None or moment.score < self._settings.raise_at:
            return evidence
        return PeakThumb(moment.score, thumb) if moment.score > evidence.score else evidence

    def _finish_events(self) -> None:
        self._watch, changes = finish(self._watch, self._settings)
        self.alerts += [self._alert(change, self._evidence.jpeg) for change in changes]
        self._evidence = PeakThumb()

    def _alert(self, change: PhaseChange, thumb: bytes) -> Alert:
        phase, event = change
        account = self._ledger.account
        started_at = wall_clock(account.run_ms, event.start_s) if account.live else None
        ended_at = wall_clock(account.run_ms, event.end_s) if account.live and phase == "close" else None
        return Alert(
            id=f"{account.camera}-{account.run_ms}-{event.start_frame}",
            phase=phase,
            camera=account.camera,
            run_ms=account.run_ms,
            start_frame=event.start_frame,
            end_frame=event.end_frame,
            started_at=started_at,
            ended_at=ended_at,
            start_s=round(event.start_s, 3),
            end_s=round(event.end_s, 3),
            peak=round(event.peak, 6),
            severity=severity_of(event.peak),
            models={name: round(score, 6) for name, score in sorted(event.models.items())},
            config_hash=self._config_hash,
            model_hashes={name: self._hashes[name] for name in sorted(event.models)},
            thumb=thumb,
        )

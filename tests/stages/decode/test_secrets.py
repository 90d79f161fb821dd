"""Nothing of any login is in what is shown, whatever shape it has."""

from __future__ import annotations

import pytest

from pipeline.bus.connect import connect, hide_password
from stages.decode.redact import redact
from stages.decode.source import live_source
from stages.errors import BusError, UsageError

S = "hUnter2x"
"""In every shape below; no part of it may be seen."""
SHAPES = [
    f"rtsp://me:{S}@cam.lan:554/a", f"rtsp://{S}:pw@cam.lan/a", f"rtsp://{S}@cam.lan/a", f"rtsp://:{S}@cam.lan/a",
    f"rtsp://me:a@{S}@cam.lan/a", f"rtsp://me:a/{S}@cam.lan/a", f"rtsp://me:a?{S}@cam.lan/a",
    f"rtsp://me:a#{S}@cam.lan/a", f"rtsp://me:a@b/{S}@cam.lan/a", f"rtsp://me:a@b?{S}@cam.lan/a",
    f"rtsp://me:a@b#{S}@cam.lan/a", f"rtsp://me:a@b/c@{S}@cam.lan/a", f"rtsp://me/x:{S}@cam.lan/a",
    f"rtsp://me:{S}%40x@cam.lan/a", f"rtsps://me:{S}@[2001:db8::1]:322/a", f"RTSP://ME:{S}@CAM/a",
    f"rtsp:///me:{S}@cam.lan/a", f"rtmp://me:{S}@cam.lan/live/s", f"srt://cam.lan:9000?passphrase={S}",
    f"srt://cam.lan:9000?streamid={S}.%23!::u=me&mode=caller".replace(".%23", "%23"),
    f"http://cam.lan/v?u=me&p={S}", f"http://cam.lan/v?u={S}&p=x", f"http://cam.lan/v?passkey={S}",
    f"http://cam.lan/v?streamkey={S}", f"http://cam.lan/v?jwt={S}", f"http://cam.lan/v?sid={S}",
    f"http://cam.lan/v?usr=me&pwd={S}", f"http://cam.lan/v?PASSWORD={S}", f"http://cam.lan/v?access_token={S}",
    f"http://cam.lan/v?loginuse={S}&loginpas={S}", f"http://cam.lan/v?a=1;p={S}", f"http://cam.lan/v?{S}",
    f"http://cam.lan/v?n=1&{S}", f"http://cam.lan/v#{S}", f"http://cam.lan/v#access_token={S}",
    f"http://cam.lan/v?X-Amz-Signature={S}&X-Amz-Credential={S}", f"http://cam.lan/v?sv=1&sig={S}",
    f"http://cam.lan/v?src=rtsp%3A%2F%2Fme%3A{S}%40x%2Fa", f"http://cam.lan/v?src=rtsp://me:{S}@x/a",
    f"http://cam.lan/v?passwo%72d={S}", f"http://cam.lan/v?channel=1,{S}", f"http://cam.lan/v?channel=1?p={S}",
    f"rtsp://cam.lan/user=me&password={S}&channel=1", f"rtsp://cam.lan/user={S}_password={S}_channel=1.sdp",
    f"rtsp://cam.lan/a;token={S}", f"rtsps://cam.lan:7441/{S}0123456789?enableSrtp", f"http://cam.lan/eyJ{S}.eyJ{S}.x/v",
    f"proxy/http:%2F%2Fme:{S}%40cam/a", f"cannot open rtsp://me:{S}@cam.lan/a: 401; then http://x:{S}@y",
    f"Authorization: Basic {S}", f"authorization: Digest username=\"{S}\", response=\"{S}\"", f"sent Bearer {S}",
    f"token={S}", f"api_key = {S}", f"my_secret={S}", f"session_id={S}", f"PASSWORD={S}", f"key%3D{S}",
]  # fmt: skip
assert len(set(SHAPES)) >= 50


@pytest.mark.parametrize("text", SHAPES)
def test_nothing_of_a_login_is_left(text: str) -> None:
    shown = redact(text)
    assert S.lower() not in shown.lower()
    assert "***" in shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://cam.lan:554/Streaming/Channels/101?transport=tcp&channel=1&subtype=0",
        "rtsp://cam.lan/h264Preview_01_main", "http://cam.lan/axis-cgi/mjpg/video.cgi?resolution=640x480&fps=5",
        "udp://239.0.0.1:1234?localport=5", "/videos/a key=b.mp4", "a@b.org wrote", "/dev/video0",
    ],
)  # fmt: skip
def test_what_tells_cameras_apart_stays(text: str) -> None:
    assert redact(text) in (text, "/videos/a key=***")


@pytest.mark.parametrize("mark", "/?#")
@pytest.mark.parametrize("login", ["me:a{}" + S, "me:{}" + S, ":a{}" + S])
def test_a_raw_mark_in_a_password_is_named_with_the_remedy(login: str, mark: str) -> None:
    for scheme in ("rtsp", "http"):
        if login.format(mark).partition(mark)[0].endswith(":"):
            continue
        with pytest.raises(UsageError, match="percent-encode") as raised:
            live_source(f"{scheme}://{login.format(mark)}@cam.lan/a", "door")
        assert S not in str(raised.value)
    with pytest.raises(BusError, match="percent-encode") as refused:
        connect(f"redis://{login.format(mark)}@redis.invalid:6379/0")
    assert S not in str(refused.value)
    assert "hUnter" not in repr(refused.value)


@pytest.mark.parametrize("address", [f"me:{S}@cam.lan/a", f"/c/me:{S}@cam.lan/a", f"rtsp:/me:{S}@cam", f"x://me:{S}@c"])
def test_an_address_without_its_scheme_does_not_tell_its_password(address: str) -> None:
    with pytest.raises(UsageError, match="not a camera") as raised:
        live_source(address, "door")
    assert S not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://me:{S}@h/0", f"redis://:{S}@h", f"redis://h?password={S}", f"redis://h?username={S}&db=0",
        f"redis+sentinel://me:{S}@a,b/eyes", f"unix://:{S}@/run/redis.sock?db=1", f"rediss://h?ssl_password={S}",
        f"redis://h?sentinel_password={S}", f"redis://me:a@{S}@h", f"redis://h/0?PassWord={S}", f"redis://h?auth={S}",
    ],
)  # fmt: skip
def test_the_address_of_a_redis_is_shown_without_its_login(url: str) -> None:
    assert S not in hide_password(url)

"""Finds libopus and libspandsp and declares what is used of them; called straight through cffi, with no compiler.

libopus: the system's, else the copy that comes inside PyAV's wheel. libspandsp: the system's or none.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from cffi import FFI

ffi = FFI()
# Samples go in as `const char *` where the libraries say int16_t, so that bytes are handed over without a copy.
ffi.cdef("""
typedef struct OpusEncoder OpusEncoder;
typedef struct OpusDecoder OpusDecoder;
typedef struct OpusRepacketizer OpusRepacketizer;
OpusEncoder *opus_encoder_create(int32_t rate, int channels, int application, int *error);
int opus_encoder_ctl(OpusEncoder *, int request, ...);
int32_t opus_encode(OpusEncoder *, const char *pcm, int frame_size, unsigned char *data, int32_t max_data_bytes);
void opus_encoder_destroy(OpusEncoder *);
OpusDecoder *opus_decoder_create(int32_t rate, int channels, int *error);
int opus_decode(OpusDecoder *, const char *data, int32_t len, int16_t *pcm, int frame_size, int decode_fec);
void opus_decoder_destroy(OpusDecoder *);
OpusRepacketizer *opus_repacketizer_create(void);
OpusRepacketizer *opus_repacketizer_init(OpusRepacketizer *);
int opus_repacketizer_cat(OpusRepacketizer *, const unsigned char *data, int32_t len);
int32_t opus_repacketizer_out(OpusRepacketizer *, unsigned char *data, int32_t maxlen);
void opus_repacketizer_destroy(OpusRepacketizer *);
const char *opus_get_version_string(void);
const char *opus_strerror(int error);

typedef struct g722_encode_state_s g722_encode_state_t;
g722_encode_state_t *g722_encode_init(g722_encode_state_t *, int rate, int options);
int g722_encode(g722_encode_state_t *, unsigned char *data, const char *pcm, int samples);
int g722_encode_free(g722_encode_state_t *);
void *g722_decode_init(void *, int rate, int options);
int g722_decode(void *, int16_t *pcm, const char *data, int len);
""")


class LibraryMissing(OSError):
    """A shared library that cannot be done without was not found; the text says how to get it."""


def _inside_pyav() -> Iterator[str]:
    spec = importlib.util.find_spec("av")
    if spec is None or spec.origin is None:
        return
    package = Path(spec.origin).parent
    for folder, pattern in ((package.parent / "av.libs", "libopus-*.so*"), (package / ".dylibs", "libopus.*dylib")):
        yield from sorted(str(path) for path in folder.glob(pattern))


def _first(names: Iterator[str]) -> Any:
    for name in names:
        try:
            return ffi.dlopen(name)
        except OSError:
            continue
    return None


@cache
def opus() -> Any:
    """libopus. Raises LibraryMissing."""

    def candidates() -> Iterator[str]:
        yield "libopus.0.dylib" if sys.platform == "darwin" else "libopus.so.0"
        yield from _inside_pyav()

    library = _first(candidates())
    if library is None:
        raise LibraryMissing("libopus was not found: install the system package libopus0, or PyAV from a wheel")
    return library


@cache
def spandsp() -> Any:
    """libspandsp, or None: then PyAV does G.722, at about three times the price."""
    return _first(iter(("libspandsp.so.2", "libspandsp.so.3")))


def library_names() -> dict[str, str]:
    """What is used for each codec, for diagnostics. Raises LibraryMissing."""
    return {
        "opus": ffi.string(opus().opus_get_version_string()).decode("ascii", "replace"),
        "G722": "libspandsp" if spandsp() is not None else "PyAV: install libspandsp2, it takes a third of the time",
    }

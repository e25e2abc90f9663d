"""How the kernel is built and kept. The compilers here are scripts: each notes its call and puts down a kernel that was built before."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spec.native import NoKernel, build, kernel
from spec.native.build import cache_folder, load
from spec.store import product
from spec.store.product import widened_linear

COPIES = 'for last; do :; done; cp "$BUILT" "$last"'  # the last argument of a compiler's call is its output here
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Makes a script the compiler; returns the lines that it was called with."""
    try:
        built = max(cache_folder().glob("*.so"), key=lambda file: file.stat().st_mtime) if kernel() else None
    except NoKernel as error:
        pytest.skip(str(error))
    monkeypatch.setenv("BUILT", str(built))
    script, log = tmp_path / "compiler", tmp_path / "calls"

    def use(body: str = COPIES):
        script.write_text(f'#!/bin/sh\necho "$@" >> {shlex.quote(str(log))}\n{body}\n')
        script.chmod(0o755)
        monkeypatch.setenv("CXX", str(script))
        return lambda: log.read_text().splitlines() if log.exists() else []

    return use


def test_it_is_built_once(compiler, tmp_path):
    calls, folder = compiler(), tmp_path / "deep" / "cache"
    first, second = load("AVX512", folder), load("AVX512", folder)
    assert len(calls()) == 1
    assert "-fopenmp" in calls()[0]
    assert "-mavx512f" in calls()[0]
    assert (first.build_seconds or 0) > 0
    assert second.build_seconds is None
    assert [file.suffix for file in folder.iterdir()] == [".so"]  # nothing of the building is left


def test_other_instructions_and_another_source_are_other_files(compiler, tmp_path, monkeypatch):
    calls = compiler()
    load("AVX512", tmp_path / "cache")
    load("AVX2", tmp_path / "cache")
    source = tmp_path / "kernel.cpp"
    source.write_text(build.SOURCE.read_text() + "\n")
    monkeypatch.setattr(build, "SOURCE", source)
    load("AVX2", tmp_path / "cache")
    assert len(calls()) == len(list((tmp_path / "cache").iterdir())) == 3


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: data[:3000] + bytes([data[3000] ^ 1]) + data[3001:], lambda data: b""])
def test_a_damaged_file_is_made_anew(compiler, tmp_path, damage):
    calls = compiler()
    load("AVX512", tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    file.unlink()
    file.write_bytes(damage(whole))
    assert load("AVX512", tmp_path / "cache").build_seconds is not None
    assert len(calls()) == 2
    assert [file.read_bytes() for file in (tmp_path / "cache").iterdir()] == [whole]


def test_a_compiler_without_openmp_builds_it_for_one_thread(compiler, tmp_path):
    calls = compiler(f'case "$*" in *-fopenmp*) exit 1;; esac\n{COPIES}')
    load("AVX512", tmp_path / "cache")
    assert ["-fopenmp" in call for call in calls()] == [True, False]


def test_what_a_compiler_says_is_the_reason(compiler, tmp_path):
    compiler('echo "in file x" >&2; echo "kernel.cpp:3: error: no header" >&2; exit 1')
    with pytest.raises(NoKernel, match=r"could not build it: kernel.cpp:3: error: no header$"):
        load("AVX512", tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_no_compiler_no_processor_no_folder(monkeypatch, tmp_path):
    """Each is an answer, and products are widened by torch."""
    weight, x = torch.ones(3, 4).half(), torch.ones(2, 4)

    def reason() -> str:
        build._found.cache_clear()
        product._call.cache_clear()
        assert torch.equal(widened_linear(x, weight), torch.full((2, 3), 4.0))
        with pytest.raises(NoKernel) as caught:
            kernel()
        return str(caught.value)

    try:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
        monkeypatch.setenv("CXX", "no-such-compiler -m64")
        assert reason() == "there is no C++ compiler (no-such-compiler); install one or set CXX"
        monkeypatch.delenv("CXX")
        monkeypatch.setenv("PATH", "")
        assert reason() == "there is no C++ compiler (g++, clang++, c++); install one or set CXX"
        monkeypatch.undo()
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        assert "Error" in reason()
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
        monkeypatch.setattr(build, "ARM", ())
        assert "has neither AVX-512 nor AVX2 nor NEON" in reason()
        monkeypatch.undo()
        monkeypatch.setattr(build, "SOURCE", tmp_path / "kernel.cpp")  # as in a copy of the Python files alone
        assert "kernel.cpp" in reason()
    finally:
        monkeypatch.undo()
        build._found.cache_clear()
        product._call.cache_clear()


def test_two_processes_may_build_at_once(compiler, tmp_path):
    calls = compiler(f"sleep 1\n{COPIES}")
    code = "from pathlib import Path; from spec.native.build import load; print(load('AVX512', Path('cache')).call)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    running = [subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate(timeout=120)[0].startswith(b"<_FuncPtr") for process in running] == [True, True]
    assert [process.returncode for process in running] == [0, 0]
    assert len(calls()) >= 1
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.parametrize("change", [{"CXX": "g++ '-O2"}, {"HOME": "", "XDG_CACHE_HOME": ""}])
def test_an_environment_that_makes_no_sense_is_a_reason(change, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    if not change.get("HOME", "x"):
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(Path, "home", no_home)
    build._found.cache_clear()
    try:
        with pytest.raises(NoKernel, match=r"No closing quotation|Could not determine home"):
            kernel()
    finally:
        build._found.cache_clear()


def no_home():
    raise RuntimeError("Could not determine home directory.")


def test_a_folder_of_its_name_is_passed_over(compiler, tmp_path):
    compiler()
    folder = tmp_path / "cache"
    load("AVX512", folder)
    made_from = next(folder.iterdir()).stem.split("-")[0]
    (folder / f"{made_from}-zz.so").mkdir()
    assert load("AVX512", folder).build_seconds is None

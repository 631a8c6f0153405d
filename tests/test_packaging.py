"""The three ways to install the package give the same modules and the same plugins."""

import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROBE = """
import sys
import ovdecode as od
import ovdecode.strategies.greedy
from ovdecode.registry import broken, names
assert sys.argv[1] in ovdecode.strategies.__file__, ovdecode.strategies.__file__
assert not broken("strategy") and {"greedy", "beam"} <= set(names("strategy"))
model = od.Model(od.TableRunner([[0, 1], [1, 0]]))
print(model.generate([0], "greedy", max_new_tokens=3).tokens)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with an sdist, and the wheel that is built from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_strategies_are_one_folder_under_two_names():
    link = ROOT / "ovdecode" / "strategies"
    assert link.is_symlink()
    assert link.resolve() == ROOT / "strategies"


def test_wheel_and_sdist_hold_every_module_and_nothing_else(built):
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "ovdecode").glob("**/*.py")}
    sources |= {f"ovdecode/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "strategies").glob("**/*.py")}
    (wheel,) = built.glob("*.whl")
    (sdist,) = built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {name for name in archive.namelist() if name.endswith(".py")}
        assert "ovdecode/py.typed" in archive.namelist()
    with tarfile.open(sdist) as archive:
        in_sdist = {name.split("/", 1)[1] for name in archive.getnames() if name.endswith(".py")}
    assert in_wheel == sources
    assert sources <= in_sdist


def test_the_wheel_installs_and_decodes_away_from_the_checkout(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    target = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(target),
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(target)!r})\n{PROBE}", str(target)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "(1, 0, 1)"


def test_an_editable_install_is_the_checkout(tmp_path):
    """In an environment of its own, which reads this one's packages and changes nothing in it."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    around = {sysconfig.get_path(kind) for kind in ("purelib", "platlib")}
    (site / "zz_around.pth").write_text("\n".join(sorted(around)))  # comes after the editable install's own file
    before = _installed()
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", "--ignore-installed", "--editable", str(ROOT)]
    result = subprocess.run([*pip, *options], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(list(site.glob("ovdecode-*.dist-info"))) == 1
    assert _installed() == before
    probe = [str(python), "-c", PROBE, str(ROOT / "ovdecode")]
    result = subprocess.run(probe, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "(1, 0, 1)"


def _installed() -> dict[str, int]:
    """What this environment knows of the package, and when each file of that changed."""
    site = Path(sysconfig.get_path("purelib"))
    files = [*site.glob("*ovdecode*"), *site.glob("*ovdecode*/*")]
    return {str(path): path.stat().st_mtime_ns for path in files if path.is_file()}

from pathlib import Path

from models.export.destination import remove_stale_scratch, scratch_beside


def test_scratch_of_killed_exports_is_removed_and_that_of_running_ones_stays(tmp_path: Path) -> None:
    out = tmp_path / "out[1]"
    stale = tmp_path / ".out[1]+abc_0123"
    stale.mkdir()
    (stale / "faces.npy").touch()
    others = [tmp_path / name for name in (".out[1]+backup", ".out1+abc_0123", "out[1]+abc_0123")]
    for other in others:
        other.mkdir()
    with scratch_beside(out) as running:
        remove_stale_scratch(out)
        assert {*tmp_path.iterdir()} == {running, *others}
    assert {*tmp_path.iterdir()} == {*others}
    remove_stale_scratch(tmp_path / "none/out")


def test_an_artefact_that_a_killed_export_did_not_replace_is_moved_back(tmp_path: Path) -> None:
    for _ in range(2):  # the output is missing, then there
        (tmp_path / ".out+abcdefgh/old").mkdir(parents=True)
        (tmp_path / ".out+abcdefgh/old/model.json").touch()
        remove_stale_scratch(tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        assert (tmp_path / "out/model.json").is_file()

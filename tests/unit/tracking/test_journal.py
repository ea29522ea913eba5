import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from framework.tracking.journal import Journal
from framework.tracking.lock import WRITER_LOCK_NAME, writer_is_alive
from framework.tracking.records import check_name, last_start, read_journal, scan_journal
from framework.utils.errors import FrameworkError


def write_steps(journal: Journal, steps: range) -> None:
    for step in steps:
        journal.write("metrics", {"images": step, "values": {"loss/G": step / 2}})


def steps_in(path: Path) -> list[int]:
    records = [record for _, record in read_journal(path) if record["kind"] == "metrics"]
    assert all(record["values"] == {"loss/G": record["images"] / 2} for record in records), "two lines got mixed"
    return [record["images"] for record in records]


def test_a_record_is_one_line_of_json_with_its_time(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    write_steps(journal, range(3))
    # No close, no sync: what is written is there, whatever happens to this process now.
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["images"] for line in lines] == [0, 1, 2]
    assert lines[0].startswith('{"kind":"metrics","time_ms":1')
    assert lines[2].endswith('"images":2,"values":{"loss/G":1.0}}')
    journal.close()


def test_reader_goes_on_from_an_offset_and_leaves_a_torn_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    write_steps(journal, range(5))
    journal.close()
    path = tmp_path / "journal.jsonl"
    ends = [end for end, _ in read_journal(path)]
    assert ends[-1] == path.stat().st_size
    with path.open("ab") as file:
        file.write(b'{"kind":"metrics","time_ms":1,"ima')
    assert [record["images"] for _, record in read_journal(path, offset=ends[2])] == [3, 4]


def test_torn_last_line_is_cut_at_opening(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    write_steps(journal, range(5))
    journal.close()
    path = tmp_path / "journal.jsonl"
    os.truncate(path, path.stat().st_size - 7)
    journal = Journal(tmp_path)
    assert journal.num_cut_bytes > 0
    assert journal.state.high_water_images == {"loss/G": 3}
    write_steps(journal, range(4, 6))
    journal.close()
    assert steps_in(path) == [0, 1, 2, 3, 4, 5]


def test_damaged_line_is_told_and_not_passed_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    write_steps(journal, range(3))
    journal.close()
    path = tmp_path / "journal.jsonl"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'{"kind":"metrics"', b'{"kind"?"metrics"', 1))
    assert [record["kind"] for _, record in read_journal(path)] == ["unreadable", "metrics", "metrics"]


FULL_DISK = """
import resource, sys
from pathlib import Path
from framework.tracking.journal import Journal
from tests.unit.tracking.test_journal import write_steps
journal = Journal(Path(sys.argv[1]), max_pending_records=int(sys.argv[2]))
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
write_steps(journal, range(200))
journal.sync()
print(journal.num_pending, journal.num_dropped)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
write_steps(journal, range(200, 210))
print(journal.num_pending, journal.num_dropped)
journal.close()
"""


def run_on_full_disk(folder: Path, *, max_pending: int) -> list[list[int]]:
    if resource.getrlimit(resource.RLIMIT_FSIZE)[1] != resource.RLIM_INFINITY:
        pytest.skip("the file size limit of this machine cannot be lifted again, so a full disk cannot be played")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(folder), str(max_pending)], capture_output=True, text=True, check=True
    )
    return [[int(number) for number in line.split()] for line in done.stdout.splitlines()]


def test_full_disk_holds_records_in_memory_until_there_is_room(tmp_path: Path) -> None:
    full, room = run_on_full_disk(tmp_path, max_pending=1000)
    assert full[0] > 100
    assert full[1] == 0
    assert room == [0, 0]
    assert steps_in(tmp_path / "journal.jsonl") == list(range(210))


def test_full_disk_beyond_memory_drops_the_oldest_and_counts_them(tmp_path: Path) -> None:
    full, room = run_on_full_disk(tmp_path, max_pending=50)
    assert full[0] == 50
    dropped = room[1]
    assert dropped > 50
    steps = steps_in(tmp_path / "journal.jsonl")
    assert len(steps) == 210 - dropped
    # What was on the disk, the record half on it included; then the 49 others of the ring and the ten that followed.
    assert steps == list(range(len(steps) - 59)) + list(range(151, 210))
    counts = [record for _, record in read_journal(tmp_path / "journal.jsonl") if record["kind"] == "dropped"]
    assert [(record["count"], record["total"]) for record in counts] == [(dropped, dropped)]
    assert all(record["kind"] != "unreadable" for _, record in read_journal(tmp_path / "journal.jsonl"))


def test_unusable_folder_is_an_error_at_opening(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FrameworkError, match=r"cannot write a journal into .*Not a directory.* or a copy$"):
        Journal(tmp_path / "file" / "run")


HOLD = """
import sys, time
from pathlib import Path
from framework.tracking.journal import Journal
journal = Journal(Path(sys.argv[1]))
print("open", flush=True)
time.sleep(600)
"""


def test_second_writer_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        assert writer_is_alive(tmp_path / WRITER_LOCK_NAME)
        with pytest.raises(FrameworkError, match="another process is training"):
            Journal(tmp_path)
        holder.kill()
    assert not writer_is_alive(tmp_path / WRITER_LOCK_NAME)
    Journal(tmp_path).close()


def test_second_writer_in_one_process_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(FrameworkError, match="by this process"):
        Journal(tmp_path)
    assert writer_is_alive(tmp_path / WRITER_LOCK_NAME)
    journal.close()
    assert not writer_is_alive(tmp_path / WRITER_LOCK_NAME)


FORK = """
import os, sys, time
from pathlib import Path
from framework.tracking.journal import Journal
journal = Journal(Path(sys.argv[1]))
child = os.fork()
if not child:
    time.sleep(600)
print(child, flush=True)
os._exit(0)
"""


def test_forked_worker_that_stays_behind_does_not_keep_the_lock(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", FORK, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.wait()
        try:
            assert Path(f"/proc/{child}").exists()
            Journal(tmp_path).close()
        finally:
            os.kill(child, 9)


def test_threads_may_share_the_writer(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: write_steps(journal, range(n * 500, n * 500 + 500)), range(4)))
    journal.close()
    assert sorted(steps_in(tmp_path / "journal.jsonl")) == list(range(2000))


def test_state_sums_the_records_up(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write("start", {"uid": "one", "uri": "first"})
    journal.write("params", {"values": {"lr": "1"}})
    journal.write("tags", {"values": {"a": "1"}})
    journal.write("tags", {"values": {"a": "2"}})
    journal.write("metrics", {"images": 64, "values": {"x": 1.0}, "nonfinite": {"y": "nan"}})
    journal.write("metrics", {"images": 32, "values": {"x": 1.0}})
    journal.write("image", {"key": "x", "images": 16, "file": "x-000000016.png", "token": "t"})
    journal.write("start", {"uid": "two", "uri": "second"})
    journal.close()
    state = scan_journal(journal.path)
    assert state.high_water_images == {"x": 64, "y": 64, "image:x": 16}
    assert (state.num_attempts, state.num_nonfinite) == (2, 1)
    assert (state.params, state.tags) == ({"lr": "1"}, {"a": "2"})
    assert (state.start["uid"], state.start["uri"]) == ("one", "second")
    assert last_start(journal.path) == state.start


def test_last_start_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FrameworkError, match=r"holds no journal\.jsonl"):
        last_start(tmp_path / "journal.jsonl")
    (tmp_path / "journal.jsonl").write_text('{"kind":"metrics","time_ms":1}\n')
    with pytest.raises(FrameworkError, match="no start record"):
        last_start(tmp_path / "journal.jsonl")


@pytest.mark.parametrize("name", ["loss/G", "perf/images_per_second", "D real", "a-b.c:d", "x"])
def test_names_mlflow_takes(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["D(x)", "a#b", "", "a//b", "/a", "../a", "a/", "a/../b", "x" * 251, "größe"])
def test_names_mlflow_refuses(name: str) -> None:
    with pytest.raises(FrameworkError, match="cannot be a name"):
        check_name(name)

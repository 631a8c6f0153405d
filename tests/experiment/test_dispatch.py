"""Who gets which cells, when workers come, finish and are lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from experiment_tables import experiment

from ovdecode.errors import WorkerError
from ovdecode.experiment import Experiment, Prompt, Record
from ovdecode.experiment.cells import Cell
from ovdecode.experiment.executors.dispatch import PATIENCE, ROOM, Board, Joined, Left, News, Refused, dispatch

PLAN = experiment()


def cells(count: int) -> Iterator[tuple[Cell, Prompt]]:
    return ((Cell(place, str(place), "table", 0, "greedy", place), Prompt(0, "a")) for place in range(count))


def finished(key: str) -> Record:
    return Record.unfinished(Cell(0, key, "table", 0, "greedy", 0), PLAN, "")


def given(board: Board) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for worker, cell, _ in board.fill():
        out.setdefault(worker, []).append(cell.key)
    return out


def test_a_few_cells_are_dealt_out_evenly():
    board = Board(PLAN, cells(5))
    assert given(board) == {}
    board.note([Joined("A"), Joined("B")])
    assert given(board) == {"A": ["0", "2", "4"], "B": ["1", "3"]}
    assert given(board) == {}


def test_a_worker_has_as_much_as_there_is_room_for_and_more_when_it_has_finished_some():
    taken = []

    def work() -> Iterator[tuple[Cell, Prompt]]:
        for cell in cells(1000):
            taken.append(cell)
            yield cell

    board = Board(PLAN, work())
    board.note([Joined("A")])
    assert len(given(board)["A"]) == ROOM
    assert len(taken) == ROOM + 1  # no more are claimed than are decoded, but for the next one
    assert [record.key for record in board.note([finished("3"), finished("8")])] == ["3", "8"]
    assert given(board) == {"A": [str(ROOM), str(ROOM + 1)]}


def test_what_a_lost_worker_held_goes_to_others():
    board = Board(PLAN, cells(4))
    board.note([Joined("A"), Joined("B")])
    given(board)
    board.note([finished("0")])
    assert board.note([Left("A", "is gone")]) == []
    assert given(board) == {"B": ["2"]}
    for key in ("1", "2", "3"):
        assert not board.done
        board.note([finished(key)])
    assert board.done


def test_one_that_was_taken_for_lost_and_answers_after_all_counts_once():
    board = Board(PLAN, cells(1))
    board.note([Joined("A")])
    given(board)
    board.note([Left("A", "is gone"), Joined("B")])
    assert board.note([finished("0")]) == []  # nobody has it now
    assert given(board) == {"B": ["0"]}
    assert len(board.note([finished("0"), finished("0")])) == 1
    assert board.done


def test_after_two_losses_a_cell_is_decoded_alone_and_after_three_it_is_given_up():
    board = Board(PLAN, cells(3))
    board.note([Joined("A")])
    assert given(board) == {"A": ["0", "1", "2"]}
    board.note([Left("A", "is gone"), Joined("B")])
    assert given(board) == {"B": ["0", "1", "2"]}
    board.note([Left("B", "is gone"), Joined("C"), Joined("D")])
    assert given(board) == {"C": ["0"], "D": ["1"]}  # one each, and 2 waits
    (record,) = board.note([Left("C", "was ended by SIGKILL")])
    assert record.key == "0"
    assert record.error == "WorkerError: 3 workers were lost over this; the last one was ended by SIGKILL"
    assert given(board) == {}
    board.note([finished("1")])
    assert given(board) == {"D": ["2"]}
    board.note([finished("2")])
    assert board.done


def test_suspects_wait_until_all_else_is_given_out():
    board = Board(PLAN, cells(ROOM + 2))
    board.note([Joined("A")])
    given(board)
    board.note([Left("A", "is gone"), Joined("B")])
    given(board)
    board.note([Left("B", "is gone"), Joined("C")])
    assert given(board) == {"C": [str(ROOM), str(ROOM + 1)]}
    board.note([finished(str(ROOM))])
    assert given(board) == {}
    board.note([finished(str(ROOM + 1))])
    assert given(board) == {"C": ["0"]}


def test_workers_that_finish_nothing_end_the_run():
    board = Board(PLAN, cells(100))
    for turn in range(PATIENCE):
        board.note([Joined(str(turn))])
        given(board)
        board.note([Left(str(turn), "exited with code 3")])
    board.note([Joined("last")])
    given(board)
    assert board.failure is None
    assert board.note([Left("last", "exited with code 3")]) == []
    assert f"{PATIENCE + 1} in a row did not: the last one exited with code 3" in str(board.failure)


class Crew:
    """Tells what it is to tell, and notes what it is given and whether it was stopped."""

    def __init__(self, *news: list[News]) -> None:
        self._news, self.given, self.closed = iter(news), list[str](), False

    def give(self, worker: str, cell: Cell, prompt: Prompt) -> None:
        self.given.append(cell.key)

    def news(self, seconds: float) -> list[News]:
        return next(self._news)

    def close(self) -> None:
        self.closed = True


def test_what_came_before_a_refusal_is_kept():
    crew = Crew([Joined("A")], [finished("0"), Refused("no"), finished("1")])
    rounds = dispatch(lambda: crew, PLAN, cells(3))
    assert next(rounds) == []
    assert [record.key for record in next(rounds)] == ["0", "1"]
    with pytest.raises(WorkerError, match="a worker can't decode this experiment: no"):
        next(rounds)
    assert crew.given == ["0", "1", "2"]
    assert crew.closed


def test_it_ends_when_all_is_finished_and_stops_the_crew():
    crew = Crew([Joined("A")], [], [finished("0"), finished("1")])
    rounds = list(dispatch(lambda: crew, PLAN, cells(2)))
    assert [[record.key for record in found] for found in rounds] == [[], [], ["0", "1"]]
    assert crew.closed


def test_a_worker_that_has_nothing_may_go():
    board = Board(PLAN, cells(1))
    board.note([Joined("A"), Joined("B")])
    given(board)
    for turn in range(3 * PATIENCE):
        board.note([Left("B" if turn == 0 else str(turn - 1), "is gone"), Joined(str(turn))])
    assert [record.key for record in board.note([finished("0")])] == ["0"]


def test_nobody_is_hired_for_nothing():
    def hire() -> None:
        raise AssertionError("there is nothing to do")

    assert list(dispatch(hire, Experiment(["greedy"], prompts=["a"]), [])) == []  # type: ignore[arg-type]

"""Who gets which GPUs: rules in the small, and properties over thousands of machines."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotwatchd.core.resources import Holder, Plan, Resources, Seat, Wish, plan, visible

FOUR = Resources((0, 1, 2, 3))


def holders(**own: tuple[int, ...]) -> list[Holder]:
    """Jobs that have GPUs for themselves."""
    return [Holder(name, Seat(own=gpus)) for name, gpus in own.items()]


# -- in the small ------------------------------------------------------------------------


def test_the_lowest_free_indices_are_given() -> None:
    """What is held is left out."""
    made = plan(FOUR, holders(a=(1,)), [Wish("b", 2)])
    assert made.seats == {"b": Seat(own=(0, 2))}


def test_priority_comes_before_registration() -> None:
    """Two that do not fit together: the higher priority starts, the other is told why not."""
    made = plan(FOUR, [], [Wish("old", 3, since="1"), Wish("new", 2, since="2", priority=1)])
    assert list(made.seats) == ["new"]
    assert made.queued["old"].reason == "needs 3 GPUs, 2 of 4 free: new hold the others"


def test_registration_decides_among_equals() -> None:
    """And the name where even that is the same."""
    wishes = [Wish("b", 4, since="1"), Wish("c", 4, since="2"), Wish("a", 4, since="1")]
    assert list(plan(FOUR, [], wishes).seats) == ["a"]


def test_a_small_job_does_not_overtake_a_big_one() -> None:
    """Or the big one might wait for ever."""
    made = plan(FOUR, holders(a=(0, 1)), [Wish("big", 3, since="1"), Wish("small", 1, since="2")])
    assert not made.seats
    assert made.queued["small"].reason == "its turn is after big, which needs 3 GPUs"


def test_what_never_fits_holds_nobody_up() -> None:
    """It says so, and where it can run."""
    made = plan(FOUR, [], [Wish("huge", 8, since="1"), Wish("small", 1, since="2")])
    assert list(made.seats) == ["small"]
    assert made.queued["huge"].reason == "needs 8 GPUs, this machine has only 4"
    assert "8 GPUs" in made.queued["huge"].remedy


def test_without_gpus_the_reason_says_why_none_was_found() -> None:
    """A driver that does not answer is not the same as no driver."""
    none = Resources((), problem="nvidia-smi did not answer within 20 s")
    reason = plan(none, [], [Wish("a", 1)]).queued["a"].reason
    assert reason == "needs 1 GPU, this machine has none (nvidia-smi did not answer within 20 s)"


def test_before_anybody_looked_nothing_is_given_away() -> None:
    """But who did not ask starts at once, as without spotwatchd."""
    made = plan(Resources(), [], [Wish("quiet", since="1"), Wish("one", 1, since="2")])
    assert made.seats == {"quiet": Seat(sees=None)}
    made = plan(Resources(), [], [Wish("one", 1)])
    assert "still looked for" in made.queued["one"].reason


def test_jobs_that_did_not_say_share() -> None:
    """As many as there are; that was so before there was a queue."""
    made = plan(FOUR, [], [Wish("a"), Wish("b"), Wish("c", sees=(1,))])
    assert made.seats == {"a": Seat(sees=None), "b": Seat(sees=None), "c": Seat(sees=(1,))}


def test_nobody_has_for_himself_what_another_may_use() -> None:
    """One that did not say may use every GPU; then none is given away."""
    made = plan(FOUR, [Holder("quiet", Seat(sees=None))], [Wish("one", 1)])
    assert made.queued["one"].reason.startswith("needs 1 GPU for itself, and quiet may use any")
    made = plan(FOUR, holders(a=(2,)), [Wish("quiet")])
    assert "did not say how many; a hold some" in made.queued["quiet"].reason


def test_a_list_of_visible_gpus_is_respected() -> None:
    """CUDA_VISIBLE_DEVICES=0,1 of a job that did not ask leaves the others to be given away."""
    made = plan(FOUR, [Holder("hand", Seat(sees=(0, 1)))], [Wish("two", 2)])
    assert made.seats == {"two": Seat(own=(2, 3))}
    assert plan(FOUR, holders(a=(0,)), [Wish("hand", sees=(0, 1))]).queued
    assert plan(FOUR, holders(a=(0,)), [Wish("hand", sees=(1, 2))]).seats


def test_jobs_without_a_gpu_have_a_limit_of_their_own() -> None:
    """Neither kind holds the other up."""
    machine = Resources((0,), cpu_jobs=1)
    wishes = [Wish("c1", 0, since="1"), Wish("c2", 0, since="2"), Wish("g", 1, since="3")]
    made = plan(machine, [], wishes)
    assert made.seats == {"c1": Seat(), "g": Seat(own=(0,))}
    assert made.queued["c2"].reason == "1 jobs without a GPU run already: c1"
    bare = plan(Resources((), cpu_jobs=1), [], [Wish("a", since="1"), Wish("b", since="2")])
    assert list(bare.seats) == ["a"]  # without GPUs every job that did not ask is one of them


def test_a_job_of_another_machine_reserves_nothing() -> None:
    """It may go for the lease; a later one starts meanwhile, and it holds nobody up."""
    there = Wish("there", 4, since="1", elsewhere=True)
    made = plan(FOUR, [], [there, Wish("here", 1, since="2")])
    assert made.tries == {"there"}
    assert list(made.seats) == ["here"]
    made = plan(FOUR, holders(a=(0,)), [there, Wish("here", 1, since="2")])
    assert list(made.queued) == ["there"]
    assert list(made.seats) == ["here"]


def test_a_job_that_lacks_something_here_holds_nobody_up() -> None:
    """It is tried when it fits; but nobody waits for a job that may be blocked again."""
    made = plan(FOUR, holders(a=(0,)), [Wish("big", 4, yields=True, since="1"), Wish("b", 1)])
    assert list(made.seats) == ["b"]
    assert list(plan(FOUR, [], [Wish("big", 4, yields=True)]).seats) == ["big"]


def test_the_room_of_a_job_that_comes_up_is_kept() -> None:
    """Its replicator is not there yet: nobody behind it takes its GPUs."""
    soon = Wish("soon", 3, priority=1, soon=True)
    made = plan(FOUR, [], [soon, Wish("a", 1, since="1"), Wish("b", 1, since="2")])
    assert made.seats == {"a": Seat(own=(3,))}
    assert list(made.queued) == ["b"]


def test_names_of_other_people_s_jobs_stay_theirs() -> None:
    """The reason names whose jobs a person may know of."""
    held = [Holder("mine", Seat(own=(0, 1)), "1"), Holder("theirs", Seat(own=(2, 3)), "2")]
    wishes = [Wish("a", 1, since="1", owner="1"), Wish("b", 1, since="2", owner="2")]
    made = plan(FOUR, held, wishes)
    assert made.queued["a"].reason.endswith("mine, jobs of other users hold the others")
    assert made.queued["b"].reason == "its turn is after a job of another user, which needs 1 GPU"


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        (None, None),
        ("", ()),
        ("0", (0,)),
        (" 3, 1 ,3", (1, 3)),
        ("-1", ()),
        ("2,-1,0", (2,)),
        ("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", None),
        ("0,MIG-1/2", None),
        ("all", None),
        ("\u0665", None),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(
    text: str | None, gpus: tuple[int, ...] | None
) -> None:
    """Where that cannot be told, the job counts as one that may use any GPU."""
    assert visible(text) == gpus


# -- properties --------------------------------------------------------------------------

INDICES = st.integers(0, 5)
SEES = st.one_of(st.none(), st.sets(INDICES, max_size=3).map(lambda some: tuple(sorted(some))))


@st.composite
def machines(draw: st.DrawFn) -> tuple[Resources, list[Holder]]:
    """A machine, and jobs that were seated on it one after the other."""
    count = draw(st.one_of(st.none(), st.integers(0, 5)))
    limit = draw(st.one_of(st.none(), st.integers(1, 3)))
    there = None if count is None else tuple(range(count))
    machine = Resources(there, limit)
    held: list[Holder] = []
    for number, gpus in enumerate(
        draw(st.lists(st.one_of(st.none(), st.integers(0, 3)), max_size=5))
    ):
        wish = Wish(f"h{number}", gpus, draw(SEES) if gpus is None else None)
        seat = plan(machine, held, [wish]).seats.get(wish.job)
        if seat is not None:
            held.append(Holder(wish.job, seat))
    return machine, held


@st.composite
def wish_lists(draw: st.DrawFn) -> list[Wish]:
    """Jobs that want to start."""
    wants = draw(st.lists(st.one_of(st.none(), st.integers(0, 7)), max_size=6))
    return [
        Wish(
            f"w{number}",
            gpus,
            draw(SEES) if gpus is None else None,
            draw(st.integers(-1, 1)),
            str(draw(st.integers(0, 3))),
            elsewhere=draw(st.integers(0, 4)) == 4,
            yields=draw(st.integers(0, 4)) == 4,
            soon=draw(st.integers(0, 4)) == 4,
        )
        for number, gpus in enumerate(wants)
    ]


def _gpus_of(seat: Seat, machine: Resources) -> set[int]:
    every = set(range(10)) if machine.gpus is None else set(machine.gpus)
    return set(seat.own) | (every if seat.sees is None else set(seat.sees))


def no_gpu_is_used_twice(machine: Resources, held: list[Holder]) -> None:
    """What somebody has for himself, nobody else has or sees."""
    for one in held:
        for other in held:
            if one is not other:
                clash = set(one.seat.own) & _gpus_of(other.seat, machine)
                assert not clash, f"{one.job} and {other.job} both use {clash}"


def everyone(held: list[Holder], made: Plan) -> list[Holder]:
    """Who holds something once the plan is carried out."""
    return [*held, *(Holder(job, seat) for job, seat in made.seats.items())]


def each_gets_what_it_asked_for(machine: Resources, made: Plan, wishes: list[Wish]) -> None:
    """Exactly as many as it asked for, and only GPUs that are there."""
    for wish in wishes:
        seat = made.seats.get(wish.job)
        if seat is not None and wish.gpus is not None:
            assert len(seat.own) == wish.gpus
            assert set(seat.own) <= set(machine.gpus or ())


def each_has_one_answer(made: Plan, wishes: list[Wish]) -> None:
    """It starts, tries, waits with a reason, or is not ready."""
    for wish in wishes:
        answers = (wish.job in made.seats, wish.job in made.tries, wish.job in made.queued)
        assert sum(answers) == 1 or (wish.soon and not any(answers))
        assert wish.job not in made.queued or made.queued[wish.job].reason
        assert not (wish.elsewhere and wish.job in made.seats)


def nobody_is_overtaken(machine: Resources, made: Plan, wishes: list[Wish]) -> None:
    """Of two that want GPUs, the later starts only if the earlier does, or holds nobody up."""
    gpu = [w for w in wishes if w.gpus != 0 and w.sees != () and machine.gpus != ()]
    order = sorted(gpu, key=lambda each: each.place)
    for place, wish in enumerate(order):
        possible = machine.gpus is None or (wish.gpus or 0) <= len(machine.gpus)
        if wish.job in made.queued and possible and not (wish.elsewhere or wish.yields):
            assert not [later.job for later in order[place + 1 :] if later.job in made.seats]


def the_first_does_not_wait(
    machine: Resources, held: list[Holder], made: Plan, wishes: list[Wish]
) -> None:
    """Who would fit beside what is held, and is the first by order of those who may, starts."""
    for wish in sorted(wishes, key=lambda each: each.place):
        if plan(machine, held, [wish]).seats:
            assert wish.job in made.seats
            return
        never = machine.gpus is not None and wish.job in plan(machine, [], [wish]).queued
        if not (wish.elsewhere or wish.yields or never):
            return


def the_limit_of_jobs_without_a_gpu_holds(machine: Resources, all_of_them: list[Holder]) -> None:
    """Counted are those that use none here, asked or not."""
    none = [
        each
        for each in all_of_them
        if not each.seat.own and (each.seat.sees == () or machine.gpus == ())
    ]
    assert machine.cpu_jobs is None or len(none) <= machine.cpu_jobs


@given(machines(), wish_lists())
def test_every_plan_keeps_the_rules(
    state: tuple[Resources, list[Holder]], wishes: list[Wish]
) -> None:
    """Whatever is held and whoever asks, in whatever order."""
    machine, held = state
    made = plan(machine, held, wishes)
    no_gpu_is_used_twice(machine, everyone(held, made))
    each_gets_what_it_asked_for(machine, made, wishes)
    each_has_one_answer(made, wishes)
    nobody_is_overtaken(machine, made, wishes)
    the_first_does_not_wait(machine, held, made, wishes)
    the_limit_of_jobs_without_a_gpu_holds(machine, everyone(held, made))
    assert plan(machine, held, wishes[::-1]) == made


@given(machines(), wish_lists())
def test_whoever_can_run_here_runs_when_the_others_are_gone(
    state: tuple[Resources, list[Holder]], wishes: list[Wish]
) -> None:
    """Jobs end one after the other: every wish that is possible comes to its turn."""
    machine, held = state
    there = FOUR.gpus if machine.gpus is None else machine.gpus  # by now somebody has looked
    machine = replace(machine, gpus=there)
    waiting = [wish for wish in wishes if not wish.elsewhere and not wish.soon]
    for _ in range(len(held) + 2 * len(waiting) + 1):
        made = plan(machine, held, waiting)
        no_gpu_is_used_twice(machine, everyone(held, made))
        waiting = [wish for wish in waiting if wish.job not in made.seats]
        held = everyone(held, made)[1:]  # one ends
    assert all((wish.gpus or 0) > len(there or ()) for wish in waiting)

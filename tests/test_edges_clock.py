"""edges.py under clocks that are wrong, late, ahead or set back: energy is never lost, edges say so."""

from metered_house import House

from agent.edges import CLOCK_S


def test_edges_by_a_clock_that_is_not_known_good_say_so():
    house = House()
    house.clock_good = False
    house.run(400 + 900 + 50)
    house.clock_good = True
    house.run(900)
    assert house.flags == {-1: "clock", 0: "clock", 1: "clock"}
    assert house.imports == {0: 10_080, 1: 10_260, 2: 10_440}


def test_after_a_power_cut_the_clock_is_waited_for():
    house = House().run(400 + 450)
    house.clock_good, house.clock_off = False, -1000.0
    house.power_cut(3 * 900).run(60)
    assert list(house.imports) == [0]
    house.clock_off = -30 * 60  # later than all that was kept, and wrong all the same
    house.run(60)
    assert list(house.imports) == [0]
    house.clock_good, house.clock_off = True, 0.0
    house.run(900)
    assert house.imports == {edge: 10_080 + 180 * edge for edge in range(5)}
    assert house.flags == {0: "partial", 1: "partial", 2: "partial", 3: "partial"}


def test_a_clock_that_never_comes_good_is_taken_as_it_is_in_the_end():
    house = House().run(400 + 450)
    house.clock_good = False
    house.power_cut(100).run(CLOCK_S + 900)
    assert house.imports == {0: 10_080, 1: 10_260, 2: 10_440}
    assert house.flags == {0: "clock partial", 1: "clock partial", 2: "clock"}


def test_an_agent_that_starts_again_on_a_machine_long_awake_waits_for_no_clock():
    house = House().run(400 + 450)
    house.clock_good = False
    house.power_cut(100)
    house.now = CLOCK_S
    house.run(900)
    assert list(house.imports) == [0, 1]


def test_a_clock_that_was_ahead_loses_its_edges_and_no_energy():
    house = House()
    house.clock_good, house.clock_off = False, 7200.0
    house.run(400 + 450)
    assert list(house.imports) == [8]
    house.clock_good, house.clock_off = True, 0.0
    house.run(900)
    assert house.imports == {1: 10_260}
    house.run(900)
    assert house.imports == {1: 10_260, 2: 10_440}


def test_a_clock_set_forward_over_an_edge():
    house = House().run(390)
    house.clock_off = 15.0
    house.run(900)
    assert house.imports == {0: 10_078, 1: 10_257}  # 10 s and 15 s short: 10_258 and 10_257
    assert house.flags == {-1: "clock", 0: "clock"}
    house = House().run(390)
    house.clock_off = 75.0
    house.run(900)
    assert house.imports == {1: 10_245}


def test_a_kept_time_in_the_future_is_let_go():
    house = House()
    house.clock_off = 7200.0
    house.run(400 + 450)
    house.clock_off = 0.0
    house.power_cut(100).run(900)
    assert house.imports == {1: 10_260}


def test_a_good_clock_set_back_over_an_edge_notes_it_anew():
    house = House().run(400 + 20)
    assert house.imports == {0: 10_080}
    house.clock_off = -60.0
    house.run(1800)
    assert house.imports == {0: 10_080 + 12, 1: 10_260 + 12}
    assert house.flags == {}


def test_a_bad_clock_set_back_over_an_edge_is_no_clock():
    house = House().run(400 + 20)
    house.clock_good, house.clock_off = False, -60.0
    house.run(60)
    assert house.imports == {0: 10_080}
    house.run(1800)
    assert house.imports == {0: 10_080, 1: 10_260 + 12, 2: 10_440 + 12}
    assert house.flags == {0: "clock", 1: "clock", 2: "clock"}


def test_an_old_date_without_end_fills_no_memory():
    house = House(slot_s=3600)
    house.clock_good = False
    for _ in range(200):
        house.pass_s(3600)
        house.look()
    assert len(house.edges.edges) <= 4 * 24 + 1
    house.clock_good = True
    house.pass_s(3600)
    house.look()
    assert len(house.edges.edges) <= 48


# the record

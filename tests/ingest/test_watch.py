from archiver.ingest.watch import Watch

FLOW = 7


def watch() -> Watch:
    it = Watch(every_seconds=60, settling_seconds=3)
    it.expect([FLOW], now=0)
    return it


def test_a_flow_is_looked_at_when_it_has_settled_and_then_again_and_again():
    it = watch()

    assert it.due(now=2) == []
    assert it.due(now=3) == [FLOW]
    assert it.due(now=62) == []
    assert it.due(now=63) == [FLOW]


def test_an_opened_stream_is_reason_to_look_soon():
    it = watch()
    it.due(now=3)
    it.opened([FLOW], now=10)

    assert it.due(now=12) == []
    assert it.due(now=13) == [FLOW]


def test_streams_that_never_last_keep_no_flow_from_being_looked_at():
    it = watch()
    looks = []
    for now in range(1, 20):
        it.opened([FLOW], now=now)
        looks += [now for _ in it.due(now=now)]
    assert len(looks) >= 5


def test_who_looks_before_a_stream_has_settled_looks_again_when_it_has():
    it = watch()
    it.opened([FLOW], now=1)

    assert it.due(now=3) == [FLOW]
    assert not it.looked(FLOW, 50, now=3)
    assert it.due(now=4) == [FLOW]
    assert it.due(now=60) == []

    assert not it.looked(FLOW, 60, now=4)
    assert not it.is_suspect(FLOW)


def test_what_was_said_before_the_stream_was_opened_is_not_held_against_it():
    it = watch()
    it.opened([FLOW], now=0)

    assert not it.looked(FLOW, 50, now=3)
    assert not it.looked(FLOW, 50, now=63)


def test_what_was_said_between_two_streams_is_held_against_neither():
    it = watch()
    it.looked(FLOW, 50, now=3)
    it.opened([FLOW], now=10)

    assert not it.looked(FLOW, 60, now=13)
    assert not it.looked(FLOW, 60, now=16)
    assert not it.looked(FLOW, 60, now=76)


def test_what_the_stream_brought_is_not_held_against_it():
    it = watch()
    it.looked(FLOW, 50, now=3)
    it.heard({FLOW: 60})

    assert not it.looked(FLOW, 60, now=63)
    assert it.due(now=70) == [FLOW]


def test_what_the_stream_has_not_brought_a_settling_time_later_was_kept_back():
    it = watch()
    it.looked(FLOW, 50, now=3)
    it.due(now=63)

    assert not it.looked(FLOW, 60, now=63)
    assert it.due(now=65) == []
    assert it.due(now=66) == [FLOW]
    assert it.looked(FLOW, 60, now=66)
    assert not it.looked(FLOW, 60, now=126)


def test_a_flow_is_suspect_between_two_looks_that_find_what_was_not_heard():
    it = watch()
    it.looked(FLOW, 50, now=3)
    assert not it.is_suspect(FLOW)
    it.looked(FLOW, 60, now=63)
    assert it.is_suspect(FLOW)
    it.looked(FLOW, 60, now=66)
    assert not it.is_suspect(FLOW)


def test_what_was_heard_or_a_stream_opened_anew_ends_the_suspicion():
    it = watch()
    it.looked(FLOW, 50, now=3)
    it.looked(FLOW, 60, now=63)
    it.heard({FLOW: 60})
    it.looked(FLOW, 60, now=66)
    assert not it.is_suspect(FLOW)
    it.looked(FLOW, 70, now=126)
    assert it.is_suspect(FLOW)
    it.opened([FLOW], now=127)
    assert not it.is_suspect(FLOW)


def test_what_is_heard_late_makes_no_newer_event_unheard():
    it = watch()
    it.looked(FLOW, 50, now=3)
    it.heard({FLOW: 60})
    it.heard({FLOW: 55})
    it.looked(FLOW, 60, now=63)
    assert not it.is_suspect(FLOW)


def test_what_was_on_its_way_is_not_held_against_the_stream():
    it = watch()
    it.looked(FLOW, 50, now=3)

    assert not it.looked(FLOW, 60, now=63)
    it.heard({FLOW: 60})
    assert not it.looked(FLOW, 60, now=66)


def test_a_busy_flow_whose_stream_keeps_up_is_never_suspected_for_long():
    it = watch()
    it.looked(FLOW, 50, now=3)

    for newest in range(60, 200, 10):
        assert not it.looked(FLOW, newest, now=newest)
        it.heard({FLOW: newest})


def test_a_stream_opened_anew_is_trusted_anew():
    it = watch()
    it.looked(FLOW, 50, now=3)
    it.looked(FLOW, 60, now=63)
    it.opened([FLOW], now=64)

    assert not it.looked(FLOW, 60, now=67)

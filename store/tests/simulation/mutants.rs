//! Scripts with one mistake each: what the scenarios must notice to be worth anything.

/// A mistake, by the rule it breaks, and the edits that make it.
pub struct Mutant {
    pub name: &'static str,
    pub edits: &'static [(&'static str, &'static str)],
}

const fn mutant(name: &'static str, edits: &'static [(&'static str, &'static str)]) -> Mutant {
    Mutant { name, edits }
}

/// All mistakes. One that no scenario could notice (because another guard does the same) is not here.
pub const MUTANTS: &[Mutant] = &[
    mutant(
        "a request that comes again is carried out again",
        &[("== req then return replay", "== 'x' .. req then return replay")],
    ),
    mutant(
        "an old attempt may still report",
        &[("if tostring(rec[ATT]) ~= report.attempt or rec[OWNER] ~= inc then", "if rec[OWNER] ~= inc then")],
    ),
    mutant(
        "whatever is reported of an ended attempt counts as known",
        &[("if same_outcome(rec, report) then return 'DUP' end", "if true then return 'DUP' end")],
    ),
    mutant(
        "an attempt that was told to end may still complete",
        &[(
            "if rec[ST] == 'X' then\n    leave(r)\n    conclude(r, idx, rec, 'N', '', '')\n    return 'CANCELLED'",
            "if rec[ST] == 'never' then\n    leave(r)\n    conclude(r, idx, rec, 'N', '', '')\n    return 'CANCELLED'",
        )],
    ),
    mutant("what a task waits for is counted and not written", &[("r.left_changed[target] = true", "")]),
    mutant(
        "what has ended stays with its worker",
        &[("call('SREM', prefix .. 'own:' .. inc, unpack(released.own))", "")],
    ),
    mutant(
        "edges beyond the budget are forgotten",
        &[("todo[#todo + 1] = 'E ' .. e.r.id .. ' ' .. e.idx .. ' ' .. e.chunk", "")],
    ),
    mutant(
        "tasks of a range beyond the budget are forgotten",
        &[("todo[#todo + 1] = 'W ' .. r.id .. ' ' .. w.name", "")],
    ),
    mutant(
        "only the first portion of a large run is cancelled",
        &[("if last < to then todo[#todo + 1] = kind", "if false then todo[#todo + 1] = kind")],
    ),
    mutant(
        "a range is not filled up again",
        &[(
            "(string.sub(name, 1, 1) == 'q' or w.open > 0) then refill(r, w) end",
            "false then refill(r, w) end",
        )],
    ),
    mutant(
        "the clock follows every jump forward",
        &[("if passed > CLOCK_STEP_MS then passed = CLOCK_STEP_MS end", "")],
    ),
    mutant(
        "the clock follows jumps back",
        &[("if passed < 0 or mode == 'frozen' then", "if mode == 'frozen' then")],
    ),
    mutant(
        "a task that was being cancelled is queued again when its worker is lost",
        &[(
            "if rec[ST] == 'X' or not spared(r, rec[FLAGS]) then\n    leave(r)",
            "if not spared(r, rec[FLAGS]) then\n    leave(r)",
        )],
    ),
    mutant("losses are not limited", &[("if rec[LOST] >= r.lostmax then", "if false then")]),
    mutant(
        "an attempt's number is not raised",
        &[("local attempt = format('%d', rec[ATT] + 1)", "local attempt = '1'")],
    ),
    mutant("a task that ends keeps its place in the run", &[("r.inflight = r.inflight - 1", "")]),
    mutant(
        "the limit of a run is ignored",
        &[("if r.conc > 0 and r.inflight >= r.conc then", "if false then")],
    ),
    mutant("the limit of an agent type is ignored", &[("return used[slug] < limit", "return true")]),
    mutant(
        "the slot of an attempt is not given back",
        &[(
            "if call('SREM', prefix .. 'slots:' .. slug, id) == 1 then ring('a:' .. slug, 1) end\n  end\n  local outcome",
            "end\n  local outcome",
        )],
    ),
    mutant(
        "a lease that has run out is renewed",
        &[("if not until_clk or tonumber(until_clk) < clk then", "if not until_clk then")],
    ),
    mutant(
        "who was silent for too long may claim",
        &[(
            "if want > 0 and not fenced and mode == 'run' then",
            "if want > 0 and worker[2] and mode == 'run' then",
        )],
    ),
    mutant(
        "a failure is tried again though the run is being stopped",
        &[("if report.delay ~= '' and spared(r, rec[FLAGS]) then", "if report.delay ~= '' then")],
    ),
    mutant("a skipped step counts as done", &[("(e.st == 'K' and has(e.flags, 's'))", "e.st == 'K'")]),
    mutant(
        "a step is skipped when one of several that could start it did not",
        &[("(waits_for_trigger and l.triggers == 0)", "waits_for_trigger")],
    ),
    mutant(
        "an edge for failures fires on every end",
        &[("(kinds[i] == 'f' and e.st == 'F')", "kinds[i] == 'f'")],
    ),
    mutant(
        "a step is ready with its first trigger, whatever else it needs",
        &[("elseif l.needs == 0 and not waits_for_trigger then", "elseif not waits_for_trigger then")],
    ),
    mutant(
        "a `foreach` ends with its first item",
        &[(
            "if w.open > 0 or rec[ST] == 'Q' or is_final(rec[ST]) then return end",
            "if is_final(rec[ST]) then return end",
        )],
    ),
    mutant(
        "a repeated answer grants what is held no more",
        &[("if holds then grants[#grants + 1]", "if rec then grants[#grants + 1]")],
    ),
    mutant(
        "a cancelled task stays in its queue",
        &[("call('ZREM', prefix .. 'q:' .. rec[PLACE], rec[RANK] .. ':' .. r.id .. '.' .. idx)", "")],
    ),
    mutant(
        "a parked task that is queued still waits for its time",
        &[("call('ZREM', prefix .. 'delayed', entry)", "")],
    ),
    mutant(
        "a takeover leaves the other its lease",
        &[("call('ZADD', prefix .. 'leases', 0, holder)\n  bury(holder, 50)", "")],
    ),
    mutant("a run is bound to nobody", &[("r.pin = name\n", "\n")]),
    mutant(
        "a limit on waiting outlives the wait",
        &[("if first_time then\n    forget_queue_timeout(r, idx, rec)", "if first_time then")],
    ),
];

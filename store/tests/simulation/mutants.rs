//! Scripts with one mistake each: what the scenarios must notice to be worth anything.

/// A mistake, by the rule it breaks, and the edits that make it.
pub struct Mutant {
    pub name: &'static str,
    pub edits: &'static [(&'static str, &'static str)],
    /// The scenario to begin with: the one that noticed it last. All others are played if it does not.
    pub hint: u64,
}

pub const fn mutant(name: &'static str, edits: &'static [(&'static str, &'static str)]) -> Mutant {
    Mutant { name, edits, hint: 1 }
}

impl Mutant {
    const fn hint(mut self, seed: u64) -> Mutant {
        self.hint = seed;
        self
    }
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
    )
    .hint(4),
    mutant(
        "whatever is reported of an ended attempt counts as known",
        &[("if same_outcome(rec, report) then return 'DUP' end", "if true then return 'DUP' end")],
    )
    .hint(5),
    mutant(
        "an attempt that was told to end may still complete",
        &[(
            "if rec[ST] == 'X' then\n    end_ordered(r, idx, rec)\n    return rec[ST] == 'N'",
            "if rec[ST] == 'never' then\n    end_ordered(r, idx, rec)\n    return rec[ST] == 'N'",
        )],
    )
    .hint(4),
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
    )
    .hint(4),
    mutant(
        "a task that was being cancelled is queued again when its worker is lost",
        &[(
            "if rec[ST] == 'X' then\n    end_ordered(r, idx, rec)\n    return\n  end\n  if not spared",
            "if not spared",
        )],
    )
    .hint(14),
    mutant("losses are not limited", &[("if rec[LOST] >= r.lostmax then", "if false then")]).hint(8),
    mutant(
        "an attempt's number is not raised",
        &[("local attempt = format('%d', rec[ATT] + 1)", "local attempt = '1'")],
    )
    .hint(3),
    mutant("a task that ends keeps its place in the run", &[("r.inflight = r.inflight - 1", "")]),
    mutant(
        "the limit of a run is ignored",
        &[("if r.conc > 0 and r.inflight >= r.conc then", "if false then")],
    ),
    mutant("the limit of an agent type is ignored", &[("return used[slug] < limit", "return true")]),
    mutant(
        "the slot of an attempt is not given back",
        &[("if limits_known or has(rec[FLAGS], 'i') then free_slots(r, id, rec) end", "")],
    ),
    mutant(
        "a lease that has run out is renewed",
        &[("if not until_clk or tonumber(until_clk) < clk then", "if not until_clk then")],
    )
    .hint(65),
    mutant(
        "who was silent for too long may claim",
        &[(
            "if want > 0 and not fenced and mode == 'run' then",
            "if want > 0 and worker[2] and mode == 'run' then",
        )],
    )
    .hint(3),
    mutant(
        "a failure is tried again though the run is being stopped",
        &[("if report.delay ~= '' and spared(r, rec[FLAGS]) then", "if report.delay ~= '' then")],
    )
    .hint(20),
    mutant("a skipped step counts as done", &[("(st == 'K' and has(flags, 's'))", "st == 'K'")]),
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
    )
    .hint(2),
    mutant(
        "a `foreach` ends with its first item",
        &[(
            "if w.open > 0 or rec[ST] == 'Q' or is_final(rec[ST]) then return end",
            "if is_final(rec[ST]) then return end",
        )],
    ),
    mutant(
        "a repeated answer grants what is held no more",
        &[("if holds then grant_reply(grants", "if rec then grant_reply(grants")],
    )
    .hint(4),
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
    )
    .hint(4),
    mutant("a run is bound to nobody", &[("r.pin = name\n", "\n")]).hint(2),
    mutant("an agent is given several tasks at once", &[("pick.list.full = true\n  end", "\n  end")]).hint(2),
    mutant(
        "an agent is given a task while it works on another",
        &[(" and call('EXISTS', prefix .. 'slots:' .. queue) == 0", "")],
    )
    .hint(4),
    mutant("an agent's task is given to any worker", &[("return agent.worker == name and", "return")]),
    mutant("a stopped agent is given tasks", &[("and not agent.held and", "and")]).hint(26),
    mutant(
        "an agent keeps what it worked on",
        &[("if is_assigned(shared.queue) and call('SREM'", "if false and call('SREM'")],
    ),
    mutant(
        "an agent at work is moved",
        &[("if running[1] then return { 'BUSY'", "if false then return { 'BUSY'")],
    )
    .hint(2),
    mutant(
        "a move lets a stopped agent go",
        &[("wanted.held = known and known.held or nil", "wanted.held = nil")],
    )
    .hint(4),
    mutant(
        "a limit on an attempt outlives it",
        &[("call('ZREM', prefix .. 'deadlines', 'a' .. id .. '.' .. rec[ATT])", "")],
    ),
    mutant(
        "what a worker holds and does not name gets no limit",
        &[("if rec then limit_time(r, idx, rec) end\n      if rec then unknown", "if rec then unknown")],
    )
    .hint(4),
    mutant(
        "a limit on waiting outlives the wait",
        &[("if first_time then\n    forget_queue_timeout(r, idx, rec)", "if first_time then")],
    ),
    mutant("a retry does not take the old end back", &[("    r[st] = r[st] - 1\n", "")]),
    mutant(
        "what is tried anew begins with attempt one",
        &[("if marked(r, 'a') then load_records(r, ready) end", "")],
    )
    .hint(2),
    mutant(
        "a run that goes on is still being stopped",
        &[("r.status, r.stop, r.reason = 'running', '', ''", "r.status, r.reason = 'running', ''")],
    )
    .hint(2),
    mutant(
        "a run that goes on counts as ended",
        &[("call('ZREM', prefix .. 'done', id)\n  local timeout", "local timeout")],
    )
    .hint(2),
    mutant(
        "what waits already is not told of a retry",
        &[("elseif deed == 'L' then\n    wait_for(idx, entry.value)", "elseif deed == 'L' then")],
    )
    .hint(7),
    mutant("whoever waits for another run is told twice", &[("call('ZREM', key, unpack(members))", "")])
        .hint(2),
    mutant(
        "the end of a run is told to nobody",
        &[("if r.open == 0 and not r.told and marked(r, 'w') then", "if false then")],
    )
    .hint(2),
    mutant(
        "waiting tasks of other runs beyond the budget are forgotten",
        &[("todo[#todo + 1] = 'O ' .. e.r.id .. ' ' .. e.idx", "")],
    )
    .hint(4),
    mutant("what is waited for and has ended is waited for", &[("if good ~= nil then", "if false then")])
        .hint(5),
    mutant(
        "a key outlives its run",
        &[("then call('DEL', prefix .. 'dispatch:' .. known[2]) end", "then end")],
    ),
    mutant(
        "edges of what was taken over are walked again when it has ended here",
        &[("if rec and has(rec[FLAGS], 'o') then", "if rec and is_final(rec[ST]) then")],
    )
    .hint(13),
    mutant(
        "tasks that were taken over are forgotten beyond the first portion",
        &[("if last < to then todo[#todo + 1] = 'S '", "if false then todo[#todo + 1] = 'S '")],
    )
    .hint(2),
    mutant(
        "a paused cluster goes on claiming",
        &[("and mode == 'run' then\n  granted", "and mode ~= 'frozen' then\n  granted")],
    )
    .hint(2),
];

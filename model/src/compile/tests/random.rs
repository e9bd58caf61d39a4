//! What must hold for the plan of every workflow, whatever edges it has.

use proptest::prelude::*;

use super::*;

/// One step of a random workflow.
#[derive(Debug, Clone)]
struct RandomStep {
    agent: &'static str,
    needs: Vec<usize>,
    success: Vec<usize>,
    failure: Vec<usize>,
    reads: Vec<usize>,
    foreach: Option<&'static str>,
    when: Option<&'static str>,
    priority: Option<u8>,
    workspace: Option<&'static str>,
    continue_on: Option<&'static str>,
}

fn random_step(count: usize) -> impl Strategy<Value = RandomStep> {
    let some = || proptest::collection::vec(0..count, 0..3);
    let lists = ["[1, 2, 3]", "[]", "<< vars.list >>", "<< state.list >>", "<< vars.text >>"];
    let conditions = ["true", "<< vars.flag >>", "<< not vars.flag >>", "<< state.x >>"];
    (
        proptest::sample::select(vec!["shell", "noop", "other"]),
        (some(), some(), some(), some()),
        proptest::option::weighted(0.3, proptest::sample::select(lists.to_vec())),
        proptest::option::weighted(0.3, proptest::sample::select(conditions.to_vec())),
        proptest::option::of(1_u8..=5),
        proptest::option::weighted(0.3, proptest::sample::select(vec!["run", "task"])),
        proptest::option::weighted(
            0.3,
            proptest::sample::select(vec!["failed", "skipped", "[failed, skipped]"]),
        ),
    )
        .prop_map(
            |(agent, (needs, success, failure, reads), foreach, when, priority, workspace, continue_on)| {
                RandomStep {
                    agent,
                    needs,
                    success,
                    failure,
                    reads,
                    foreach,
                    when,
                    priority,
                    workspace,
                    continue_on,
                }
            },
        )
}

/// Writes it down. With `circles` edges lead anywhere, without only forward.
fn written(steps: &[RandomStep], circles: bool) -> String {
    let mut text = "name: demo\nvars: {list: [a, b], text: '[1]', flag: true}\nsteps:\n".to_owned();
    for (own, step) in steps.iter().enumerate() {
        let keep = |others: &[usize], before: bool| -> Vec<usize> {
            let lawful = |other: &usize| *other != own && (circles || (*other < own) == before);
            others.iter().copied().filter(lawful).collect()
        };
        let ids = |others: Vec<usize>| {
            others.iter().map(|other| format!("s{other}")).collect::<Vec<_>>().join(", ")
        };
        let reads: String =
            keep(&step.reads, true).iter().map(|other| format!(" << steps.s{other}.result >>")).collect();
        text.push_str(&format!("  - id: s{own}\n    agent: {}\n    prompt: x{reads}\n", step.agent));
        text.push_str(&format!("    depends_on: [{}]\n", ids(keep(&step.needs, true))));
        text.push_str(&format!("    on_success: [{}]\n", ids(keep(&step.success, false))));
        text.push_str(&format!("    on_failure: [{}]\n", ids(keep(&step.failure, false))));
        let keys = [
            ("foreach", step.foreach.map(str::to_owned)),
            ("when", step.when.map(str::to_owned)),
            ("priority", step.priority.map(|priority| priority.to_string())),
            ("workspace", step.workspace.map(str::to_owned)),
            ("continue_on", step.continue_on.map(str::to_owned)),
        ];
        for (key, value) in keys.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            text.push_str(&format!("    {key}: {value}\n"));
        }
    }
    text
}

fn random_steps() -> impl Strategy<Value = Vec<RandomStep>> {
    (1_usize..30).prop_flat_map(|count| proptest::collection::vec(random_step(count), count))
}

fn check_counts(plan: &Plan) {
    let mut needs = vec![0; plan.tasks.len()];
    let mut triggers = vec![0; plan.tasks.len()];
    for task in &plan.tasks {
        for (place, dependent) in task.dependents.iter().enumerate() {
            assert!(!task.dependents[..place].contains(dependent), "an edge stands twice");
            match dependent.edge {
                EdgeKind::Needs => needs[dependent.index as usize] += 1,
                EdgeKind::OnSuccess | EdgeKind::OnFailure => triggers[dependent.index as usize] += 1,
                EdgeKind::Item => {}
            }
        }
    }
    for (number, task) in plan.tasks.iter().enumerate() {
        assert_eq!((task.dependencies, task.triggers), (needs[number], triggers[number]));
        let failure = task.dependents.iter().any(|dependent| dependent.edge == EdgeKind::OnFailure);
        let continued = plan.shared[task.shared as usize].continue_on.failed;
        let item = matches!(task.kind, TaskKind::Item { .. });
        assert!(item || task.handled == (failure || continued));
        for dependent in task.dependents.iter().filter(|dependent| dependent.edge != EdgeKind::Item) {
            let follower = &plan.tasks[dependent.index as usize];
            assert!(follower.handler || !(task.handler || dependent.edge == EdgeKind::OnFailure));
        }
    }
}

fn check_numbering(plan: &Plan) {
    let mut next_root = 0;
    let mut queues = Vec::new();
    for range in &plan.roots {
        assert_eq!(range.first, next_root, "ranges follow one another");
        next_root += range.count;
        assert!(!queues.contains(&&range.queue), "one range for each queue");
        queues.push(&range.queue);
        let tasks = &plan.tasks[range.first as usize..next_root as usize];
        let priority = |task: &PlannedTask| plan.shared[task.shared as usize].priority;
        assert!(tasks.is_sorted_by_key(priority));
        for task in tasks {
            let shared = &plan.shared[task.shared as usize];
            let queue = match &task.kind {
                TaskKind::Agent => Some(shared.queue.as_str()),
                TaskKind::Group { .. } => None,
                TaskKind::Expand { .. } | TaskKind::Snapshot { .. } => Some("c:expand"),
                TaskKind::Item { .. } => panic!("an item is no root"),
            };
            assert_eq!(range.queue.as_ref().map(|queue| queue.as_str()), queue);
        }
    }
    let mut next_item =
        plan.tasks.iter().take_while(|task| !matches!(task.kind, TaskKind::Item { .. })).count();
    for (number, task) in plan.tasks.iter().enumerate().take(next_item) {
        let root = task.dependencies + task.triggers == 0;
        assert_eq!(root, number < next_root as usize, "ranges hold exactly the roots");
        assert!((task.shared as usize) < plan.shared.len());
    }
    for (group, task) in plan.tasks.iter().enumerate() {
        let TaskKind::Group { first, count, .. } = task.kind else { continue };
        assert_eq!(first as usize, next_item, "items lie side by side, group after group");
        next_item += count as usize;
        for (place, item) in plan.tasks[first as usize..next_item].iter().enumerate() {
            let TaskKind::Item { group: of, number, .. } = &item.kind else { panic!("not an item") };
            assert_eq!((*of as usize, *number as usize), (group, place));
            assert_eq!(item.dependents.len(), 1);
            assert_eq!((item.dependents[0].index as usize, item.dependents[0].edge), (group, EdgeKind::Item));
            assert_eq!((item.shared, item.dependencies, item.triggers), (task.shared, 0, 0));
        }
    }
    assert_eq!(next_item, plan.tasks.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_plan_adds_up(steps in random_steps()) {
        let text = written(&steps, false);
        let plan = plan(&text);
        prop_assert_eq!(plan.tasks.iter().filter(|task| !matches!(task.kind, TaskKind::Item { .. })).count(), steps.len());
        check_counts(&plan);
        check_numbering(&plan);
        let again: Plan = serde_json::from_str(&serde_json::to_string(&plan).expect("it is data")).expect("it leads back");
        prop_assert_eq!(again, plan);
    }

    #[test]
    fn a_workflow_with_circles_is_refused_and_never_panics(steps in random_steps()) {
        let text = written(&steps, true);
        match parse_workflow(SourceText::new("demo.yaml", text.as_str()), KnownNames::default()) {
            Ok(parsed) => {
                let plan = compile(&parsed.workflow, &RunInputs::default(), &all_agents()).expect("it is right");
                check_counts(&plan);
                check_numbering(&plan);
            }
            Err(problems) => prop_assert!(problems.render(Colour::Plain).contains("in a circle"), "{}\n{}", problems, text),
        }
    }
}

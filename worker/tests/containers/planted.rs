//! Links that an agent puts where its worker, or the engine, will look next. Neither follows them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use maestro_model::task::Reason;
use maestro_worker::attempt::AttemptOrder;
use maestro_worker::workspace::{AssignedFolder, WorkspacePlace};

use crate::support::{Site, agent_type, failed, result};

#[tokio::test]
async fn no_link_takes_the_place_of_the_folder_the_worker_reads() {
    let site = Site::new();
    let victim = site.folder.path().join("victim");
    fs::create_dir(&victim).expect("ours");
    fs::write(victim.join("output"), "stolen=yes\n").expect("ours");
    let victim = victim.display();
    // What it may write works meanwhile: the output file, TMPDIR and HOME.
    let script = format!(
        r#"own=$MAESTRO_WORKSPACE.maestro; cd /
        for name in out tmp home; do
            rm -rf $own/$name; mv $own/$name $own/else; ln -s {victim} $own/$name
            rmdir $own/$name && ln -s {victim} $own/$name
            [ -L $own/$name ] && echo replaced $name
        done
        echo x > $own/new; mkdir $own/folder; mv $own /else; ls $own | grep -v 'home\|out\|tmp'
        echo x > $TMPDIR/x && echo x > $HOME/x && echo own=yes > $MAESTRO_OUTPUT_FILE && echo wrote"#
    );
    let end = site.run(site.script(&script)).await;
    assert_eq!(result(&end), "wrote");
    let outputs = &end.report.outputs.as_ref().expect("completed").outputs;
    assert_eq!(serde_json::to_value(outputs).expect("text"), serde_json::json!({"own": "yes"}));
}

/// An order for an agent that is assigned `folder`, whose type names these paths.
fn assigned(site: &Site, folder: &Path, script: &str, paths: serde_json::Value) -> AttemptOrder {
    let agent = Arc::new(agent_type(&serde_json::json!({"paths": paths}).to_string()));
    let folder = AssignedFolder { agent: "smith".parse().expect("a lawful id"), folder: folder.to_owned() };
    AttemptOrder { agent, place: WorkspacePlace::Assigned(folder), ..site.script(script) }
}

#[tokio::test]
async fn a_link_that_an_agent_left_where_its_type_names_a_path_is_refused() {
    let site = Site::new();
    let folder = |name: &str| {
        let path = site.folder.path().join(name);
        fs::create_dir(&path).expect("ours");
        path
    };
    let (victim, work, common) = (folder("victim"), folder("work"), folder("cache"));
    fs::write(victim.join("key"), "secret").expect("ours");
    let shown = victim.display();
    let plant = format!(
        "mkdir real; echo kept > real/file; ln -s {shown} absolute; ln -s ../victim relative; \
         ln -s real within; ln -s {shown} {}/models; ln -s real/file one",
        common.display()
    );
    let end = site.run(assigned(&site, &work, &plant, serde_json::json!({"write": [common]}))).await;
    assert_eq!(result(&end), "");

    // The last may be the host's own link: nothing on the way to it is an agent's to change.
    let outside = site.folder.path().join("outside");
    std::os::unix::fs::symlink(&work, &outside).expect("ours");
    for path in [
        work.join("absolute"),
        work.join("absolute/key"),
        work.join("relative"),
        work.join("within"),
        work.join("one"),
        common.join("models"),
        outside.join("relative/key"),
        outside.join("real/../relative"),
    ] {
        for paths in [
            serde_json::json!({"read": [path], "write": [common]}),
            serde_json::json!({"write": [common, path]}),
        ] {
            let script = "cat absolute/key relative/key; touch absolute/new relative/new";
            let end = site.run(assigned(&site, &work, script, paths)).await;
            let (reason, _, message) = failed(&end);
            assert_eq!(reason, Reason::Config, "{message}");
            assert!(message.contains(&format!("`{}`", path.display())), "{message}");
            assert_eq!(end.broken, None, "the host is well");
        }
    }
    assert!(!victim.join("new").exists());

    let paths = serde_json::json!({"read": [outside.join("real/file")], "write": [work.join("real")]});
    let script = format!("cat {}; echo more > real/more", outside.join("real/file").display());
    assert_eq!(result(&site.run(assigned(&site, &work, &script, paths)).await), "kept");
    assert!(work.join("real/more").exists());
}

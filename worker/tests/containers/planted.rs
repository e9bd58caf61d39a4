//! Links that an agent puts where its worker, or the engine, will look next. Neither follows them.

use std::fs;

use crate::support::{Site, result};

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

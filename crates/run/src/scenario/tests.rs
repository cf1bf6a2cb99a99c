use super::*;

#[test]
fn quickstart_reads_without_problems() {
    match Scenario::parse("q", QUICKSTART) {
        Ok(s) => println!("{s:#?}"),
        Err(e) => panic!("{e:#?}"),
    }
}

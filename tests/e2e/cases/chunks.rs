//! Chunked bodies of requests.

use super::{odd, post, posted};
use crate::harness::{Action, BAD_REQUEST, Case, OK, Step, run};

const CODEC_ERROR: &str = "400 DPE http1.codec_error";

fn upload(body: &str) -> Case {
    odd(body).send(post("transfer-encoding: chunked\r\n", body))
}

#[test]
fn accepted() {
    let mut cases = Vec::new();
    for body in [
        "3\r\nabc\r\n0\r\n\r\n",
        "0003\r\nabc\r\n0\r\n\r\n",
        "00000000000000000000000000000000000000003\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0000\r\n\r\n",
        "3;a=b\r\nabc\r\n0\r\n\r\n",
        "3;a=\"x;y\"\r\nabc\r\n0\r\n\r\n",
        "3;\r\nabc\r\n0\r\n\r\n",
        "3 ;a=b\r\nabc\r\n0\r\n\r\n",
        "3; a = b \r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0;foo\r\n\r\n",
        "3;\u{ff}\r\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "3\t\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\n\n",
        "3\r\nabc\r\n0\r\nx: y\r\n\r\n",
        "3\r\nabc\r\n0\r\nx: y\n\r\n",
        "3\r\nabc\r\n0\r\ncontent-length: 9\r\n\r\n",
        "3\r\nabc\r\n0\r\ntransfer-encoding: gzip\r\n\r\n",
    ] {
        cases.push(upload(body).reply(OK).reaches(posted("", "3\r\nabc\r\n0\r\n\r\n")));
    }
    for size in ["A", "a", "0A"] {
        let body = format!("{size}\r\n0123456789\r\n0\r\n\r\n");
        cases.push(upload(&body).reply(OK).reaches(posted("", "a\r\n0123456789\r\n0\r\n\r\n")));
    }
    let long = format!("3;{}\r\nabc\r\n0\r\n\r\n", "y".repeat(5000));
    cases.push(upload(&long).reply(OK).reaches(posted("", "3\r\nabc\r\n0\r\n\r\n")));
    cases.push(
        odd("size line in parts")
            .send(post("transfer-encoding: chunked\r\n", "1"))
            .then(Step::UpstreamHas(b"chunked\r\n\r\n".to_vec()))
            .then(Step::SendSingly(b"0\r\n".to_vec()))
            .send("0123456789abcdef\r\n0\r\n\r\n")
            .reply(OK)
            .reaches(posted("", "10\r\n0123456789abcdef\r\n0\r\n\r\n")),
    );
    run(cases);
}

#[test]
fn refused() {
    let mut cases = Vec::new();
    for body in [
        "3;a\nabc\r\n0\r\n\r\n",
        "3;a\rb\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\r\nabc\r0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\n\n",
        "g\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "3x\r\nabc\r\n0\r\n\r\n",
        "3\r\r\nabc\r\n0\r\n\r\n",
        "3\rabc\r\n0\r\n\r\n",
        "10000000000000003\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nx y\r\n\r\n",
        "3\r\nabc\r\n0\r\nxy\r\n\r\n",
    ] {
        cases.push(upload(body).reply(BAD_REQUEST).closed().log(CODEC_ERROR));
    }
    let nul = upload("3\r\nabc\r\n0\r\nx: \0\r\n\r\n").reply(BAD_REQUEST).closed();
    cases.push(nul.log("400 DPE http1.invalid_characters"));
    let silent = vec![vec![Action::Until(b"abc\r\n".to_vec())]];
    cases.push(
        odd("behind what has been passed on")
            .send(post("transfer-encoding: chunked\r\n", "3\r\nabc\r\n"))
            .then(Step::UpstreamHas(b"abc\r\n".to_vec()))
            .send("zz\r\n")
            .scripts(silent)
            .then(Step::UpstreamClosed(1))
            .reply(BAD_REQUEST)
            .reaches(posted("", "3\r\nabc\r\n"))
            .closed()
            .log(CODEC_ERROR),
    );
    run(cases);
}

#[test]
fn refused_by_legate() {
    let mut cases = Vec::new();
    let surplus = "bytes beyond a chunk's size are rejected (RFC 9112, 7.1)";
    for body in ["3\r\nabcd\r\n0\r\n\r\n", "3\r\nabc\n0\r\n\r\n"] {
        let case = upload(body).reply(OK).reaches(posted("", "3\r\nabc\r\n0\r\n\r\n"));
        cases.push(case.legate_refuses(surplus, BAD_REQUEST));
    }
    let case = upload("3;\0\r\nabc\r\n0\r\n\r\n").reply(OK);
    let nul = "NUL in a chunk extension is rejected";
    cases.push(case.reaches(posted("", "3\r\nabc\r\n0\r\n\r\n")).legate_refuses(nul, BAD_REQUEST));
    let fold = "obs-fold is rejected (RFC 9112, 5.2)";
    let case = upload("3\r\nabc\r\n0\r\nx: y\r\n z\r\n\r\n").reply(OK);
    cases.push(case.reaches(posted("", "3\r\nabc\r\n0\r\n\r\n")).legate_refuses(fold, BAD_REQUEST));
    run(cases);
}

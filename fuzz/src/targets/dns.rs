//! Answers of DNS servers, as they come by TCP.

use legate::event::DnsRecord;
use legate::network::parse_dns_answer;

use super::super::Target;
use super::hash;

pub const TARGET: Target =
    Target { name: "dns", run, seeds: SEEDS, dictionary: DICTIONARY, max_len: 4096, memory: (4096, 16) };

/// The questions that the seeds answer.
const QUESTIONS: [(DnsRecord, &[u8]); 2] = [
    (DnsRecord::A, b"le\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01"),
    (DnsRecord::Aaaa, b"le\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x1c\0\x01"),
];

fn run(input: &[u8]) -> u64 {
    let came = QUESTIONS.map(|(record, question)| match parse_dns_answer(input, question, record) {
        Ok(answer) => {
            let fits = |address: &std::net::IpAddr| address.is_ipv4() == (record == DnsRecord::A);
            assert!(!answer.addresses.is_empty() && answer.addresses.iter().all(fits));
            // A record has a name, type, class, time, length and, at the least, four bytes.
            assert!(answer.addresses.len() <= input.len() / 15);
            format!("{}", answer.addresses.len().min(3))
        }
        Err(error) => format!("{error:?}"),
    });
    hash(came)
}

const SEEDS: &[&[u8]] = &[
    b"le\x81\x80\0\x01\0\x01\0\0\0\0\x01a\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x09\0\x04\x7f\0\0\x01",
    b"le\x81\x80\0\x01\0\x02\0\0\0\0\x01a\0\0\x1c\0\x01\xc0\x0c\0\x05\0\x01\0\0\0\x09\0\x03\x01b\0\x01b\0\0\x1c\0\x01\0\0\0\x09\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01",
    b"le\x81\x83\0\x01\0\0\0\x01\0\0\x01a\0\0\x01\0\x01",
    b"le\x83\x82\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01",
];

const DICTIONARY: &[&str] = &["\x01a\0", "\0\x01\0\x01", "\0\x1c\0\x01", "\0\x04", "\0\x10"];

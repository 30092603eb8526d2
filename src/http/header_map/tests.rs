//! What a map keeps, and what it costs.

use super::*;

#[test]
fn names_are_lower_cased_and_known_ones_found() {
    let mut h = HeaderMap::new();
    h.add_parsed(b"Content-Length", b"5").unwrap();
    h.add_parsed(b"X-Foo", b"a").unwrap();
    h.add_parsed(b"x-FOO", b"b").unwrap();
    assert_eq!(h.get(HeaderId::ContentLength), Some(&b"5"[..]));
    assert_eq!(h.get_all("x-foo").collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!(h.len(), 3);
    assert_eq!(h.byte_size(), 14 + 1 + 5 + 1 + 5 + 1);
}

#[test]
fn repeated_known_names_are_joined_or_kept() {
    let mut h = HeaderMap::new();
    for v in [&b"1"[..], b"2"] {
        h.add_parsed(b"Accept", v).unwrap();
        h.add_parsed(b"Set-Cookie", v).unwrap();
    }
    assert_eq!(h.get(HeaderId::Accept), Some(&b"1,2"[..]));
    assert_eq!(h.count(HeaderId::SetCookie), 2);
}

#[test]
fn set_keeps_the_place_and_remove_takes_all() {
    let mut h = HeaderMap::new();
    h.set(HeaderId::Server, b"one");
    h.add("x-a", b"1");
    h.set(HeaderId::Server, b"two");
    assert_eq!(h.iter().map(|(n, _)| n).collect::<Vec<_>>(), [&b"server"[..], b"x-a"]);
    h.add_parsed(b"Set-Cookie", b"1").unwrap();
    h.add_parsed(b"Set-Cookie", b"2").unwrap();
    h.remove(HeaderId::SetCookie);
    h.remove_by_name(b"x-a");
    h.remove_by_name(b"server");
    assert!(h.is_empty());
    h.set(HeaderId::Server, b"three");
    assert_eq!(h.get(HeaderId::Server), Some(&b"three"[..]));
}

#[test]
fn a_recycled_map_is_empty() {
    let mut h = HeaderMap::new();
    h.add("x-a", b"1");
    drop(h);
    let h = HeaderMap::new();
    assert!(h.is_empty());
    assert_eq!(h.iter().count(), 0);
}

#[test]
fn clone_and_display() {
    let mut h = HeaderMap::new();
    h.add("x-a", b"1");
    h.set_status(204);
    let copy = h.clone();
    drop(h);
    assert_eq!(copy.status(), 204);
    assert_eq!(copy.to_string(), "':status', '204'\n'x-a', '1'\n");
}

/// Bytes that a map holds for each byte of its fields.
fn held(h: &HeaderMap) -> f64 {
    h.arena.capacity() as f64 / h.byte_size() as f64
}

#[test]
fn fields_that_are_joined_cost_what_they_are() {
    let mut together = HeaderMap::new();
    let mut apart = HeaderMap::new();
    for i in 0..98 {
        together.add_parsed(b"Via", &[b'v'; 600]).unwrap();
        apart.add_parsed(b"Via", &[b'v'; 600]).unwrap();
        apart.add_parsed(format!("x-{i}").as_bytes(), b"1").unwrap();
    }
    assert_eq!(together.get(HeaderId::Via).map(<[u8]>::len), Some(98 * 601 - 1));
    assert_eq!(together.get(HeaderId::Via), apart.get(HeaderId::Via));
    assert!(held(&together) < 2.1, "{}", held(&together));
    assert!(held(&apart) < 8.0, "{}", held(&apart)); // room to double, what was left behind, and a vector's own room
}

#[test]
fn what_no_field_uses_is_given_back() {
    let mut h = HeaderMap::new();
    for i in 0..100_usize {
        h.set(HeaderId::Server, &vec![b's'; 100 + i]);
        h.set(HeaderId::Via, &[b'v'; 100]);
        h.append(HeaderId::Via, &vec![b'w'; 50 + i], ", ");
        h.add("x-a", &[b'a'; 200]);
        h.remove_by_name(b"x-a");
        h.add("x-b", &[i as u8]);
    }
    assert!(h.arena.len() <= 3 * (h.byte_size() + MAX_SMALL_WASTE), "{}", h.arena.len());
    assert_eq!(h.get(HeaderId::Server), Some(&[b's'; 199][..]));
    assert_eq!(
        h.get(HeaderId::Via),
        Some([vec![b'v'; 100], b", ".to_vec(), vec![b'w'; 149]].concat().as_slice())
    );
    assert!(h.get_all("x-b").eq((0..100_u8).map(|i| [i])));
    assert_eq!(h.len(), 102);
    assert_eq!(h.clone().to_string(), h.to_string());
}

#[test]
fn values_grow_and_shrink() {
    let mut h = HeaderMap::new();
    h.set(HeaderId::Via, b"");
    h.append(HeaderId::Via, b"", ",");
    h.append(HeaderId::Via, b"a", ",");
    h.add("x-a", b"1");
    let mut expected = b"a".to_vec();
    for i in 0..600 {
        let piece = format!("{i}");
        h.append(HeaderId::Via, piece.as_bytes(), ",");
        expected = [&expected[..], b",", piece.as_bytes()].concat();
        assert_eq!(h.get(HeaderId::Via), Some(expected.as_slice()));
    }
    h.set(HeaderId::Via, b"short");
    h.append(HeaderId::Via, b"er", "");
    assert_eq!(h.to_string(), "'via', 'shorter'\n'x-a', '1'\n");
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut h = HeaderMap::new();
    let most = vec![b'v'; MAX_ARENA - 10];
    h.add_parsed(b"Via", &most).unwrap();
    h.add_parsed(b"x", b"12345678").unwrap();
    for (name, value) in [(&b"Via"[..], &b"1"[..]), (b"y", b"1"), (b"y1", b""), (b"te", b"12")] {
        assert_eq!(h.add_parsed(name, value), Err(HeaderMapFull), "{}", name.escape_ascii());
    }
    h.set(HeaderId::Te, b"12");
    h.append(HeaderId::Via, b"1", ",");
    assert_eq!(h.len(), 2);
    assert_eq!(h.get(HeaderId::Via), Some(most.as_slice()));
    h.remove(HeaderId::Via);
    h.set(HeaderId::Te, b"12");
    assert_eq!(h.to_string(), "'x', '12345678'\n'te', '12'\n");
}

#[test]
fn fields_beyond_their_numbers_are_refused() {
    let mut h = HeaderMap::new();
    for _ in 0..MAX_ENTRIES {
        h.add_parsed(b"set-cookie", b"").unwrap();
    }
    assert_eq!(h.add_parsed(b"set-cookie", b""), Err(HeaderMapFull));
    assert_eq!(h.add_parsed(b"x", b""), Err(HeaderMapFull));
    h.set(HeaderId::Te, b"trailers");
    assert_eq!((h.len(), h.get(HeaderId::Te)), (MAX_ENTRIES, None));
}

#[test]
fn a_map_is_used_again_once_nobody_has_it() {
    let place = |map: &HeaderMapPtr| map.as_ptr();
    let first = HeaderMapPtr::recycled();
    first.borrow_mut().add("x-a", b"1");
    first.borrow_mut().set(HeaderId::Host, b"h");
    let (at, other) = (place(&first), first.clone());
    drop(first);
    let second = HeaderMapPtr::recycled();
    assert_ne!(place(&second), at, "somebody has it");
    drop(other);
    let again = HeaderMapPtr::recycled();
    assert_eq!(place(&again), at);
    assert!(again.borrow().is_empty() && !again.borrow().has(HeaderId::Host));
    again.borrow_mut().add("x-a", &[b'a'; 2 * MAX_POOLED_ARENA]);
    drop(again);
    assert!(HeaderMapPtr::recycled().borrow().arena.capacity() <= MAX_POOLED_ARENA, "too large to be kept");
}

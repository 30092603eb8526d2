//! What the tests of all libraries have.

use super::{CompressorFactory, DecompressorFactory};
use crate::buffer::Buffer;
use crate::stats::Store;

/// What becomes of each of these pieces of one body.
pub fn compressed(factory: &dyn CompressorFactory, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut compressor = factory.create_compressor();
    let last = pieces.len() - 1;
    let one = |(i, piece): (usize, &&[u8])| {
        let mut buffer = Buffer::from(*piece);
        compressor.compress(&mut buffer, i == last);
        buffer.to_vec()
    };
    pieces.iter().enumerate().map(one).collect()
}

/// What becomes of each of these pieces of one body.
pub fn decompressed(
    factory: &dyn DecompressorFactory,
    store: &std::sync::Arc<Store>,
    pieces: &[&[u8]],
) -> Vec<Vec<u8>> {
    let mut decompressor = factory.create_decompressor(&store.root_scope())();
    let one = |piece: &&[u8]| {
        let mut output = Buffer::default();
        decompressor.decompress(&Buffer::from(*piece), &mut output);
        output.to_vec()
    };
    pieces.iter().map(one).collect()
}

fn text(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(length as u64);
    (0..length).map(|_| b'a' + random.u8(..8)).collect()
}

/// Checks that each piece can be read as soon as it is there.
pub fn there_and_back(compressor: &dyn CompressorFactory, decompressor: &dyn DecompressorFactory) {
    assert_eq!(compressor.content_encoding(), decompressor.content_encoding());
    let texts = [text(10), Vec::new(), text(100_000), text(4096)];
    let pieces = compressed(compressor, &texts.each_ref().map(|text| &text[..]));
    let pieces: Vec<_> = pieces.iter().map(|piece| &piece[..]).collect();
    assert!(pieces[2].len() < texts[2].len(), "{}", pieces[2].len());
    let outputs = decompressed(decompressor, &Store::new(1), &pieces);
    assert_eq!(outputs.iter().map(Vec::len).collect::<Vec<_>>(), texts.each_ref().map(Vec::len));
    assert!(outputs == texts);
}

//! PNG files. Written here because a crate for it would bring a second set of decompressors for what takes twenty lines.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;

/// Encodes pixels of three bytes, row by row.
pub(super) fn encode(pixels: &[u8], width: u32, height: u32) -> io::Result<Vec<u8>> {
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut head = [width.to_be_bytes(), height.to_be_bytes()].concat();
    // 8 bits, red-green-blue, deflate, the usual filters, not interlaced.
    head.extend([8, 2, 0, 0, 0]);
    chunk(&mut file, *b"IHDR", &head);
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::default());
    for row in pixels.chunks(3 * width as usize) {
        packed.write_all(&[0])?;
        packed.write_all(row)?;
    }
    chunk(&mut file, *b"IDAT", &packed.finish()?);
    chunk(&mut file, *b"IEND", &[]);
    Ok(file)
}

/// Appends a chunk: length, name, contents, checksum.
fn chunk(file: &mut Vec<u8>, name: [u8; 4], contents: &[u8]) {
    file.extend((contents.len() as u32).to_be_bytes());
    let checked = [&name, contents].concat();
    file.extend_from_slice(&checked);
    file.extend(crc32fast::hash(&checked).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::ZlibDecoder;

    #[test]
    fn pixels_come_back() {
        let pixels: Vec<u8> = (0..2 * 3 * 3).collect();
        let file = super::encode(&pixels, 3, 2).unwrap();
        assert_eq!(&file[12..29], b"IHDR\0\0\0\x03\0\0\0\x02\x08\x02\0\0\0");
        let length = u32::from_be_bytes(file[33..37].try_into().unwrap()) as usize;
        let mut rows = Vec::new();
        ZlibDecoder::new(&file[41..41 + length]).read_to_end(&mut rows).unwrap();
        assert_eq!(rows, [&[0], &pixels[..9], &[0], &pixels[9..]].concat());
        assert!(file.ends_with(b"IEND\xAE\x42\x60\x82"));
    }
}

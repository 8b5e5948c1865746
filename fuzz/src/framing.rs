//! The copy protocol of the command: frames from any bytes, and what each side makes of them.

use std::path::Path;

use super::bytes::Bytes;
use super::copy::{
    Answer, Decoder, Frame, Outcome, Reason, Received, Receiving, Role, Sending, printable,
};

/// The first byte says whether the rest is a stream or a script of frames; either is cut into
/// pieces, decoded, and played to both sides' rules.
pub fn framing(data: &[u8]) {
    let mut bytes = Bytes(data);
    let mode = bytes.u8();
    let cut = 1 + usize::from(bytes.u8());
    let stream = match mode & 1 {
        0 => bytes.0.to_vec(),
        _ => script(&mut bytes),
    };
    let frames = decode(&stream, cut);
    receive(&frames, mode);
    send(&frames, mode);
}

/// Frames with drawn fields, encoded; and sometimes a byte of them spoilt.
fn script(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    while !bytes.is_empty() && out.len() < 100_000 {
        let kind = bytes.u8();
        let before = out.len();
        draw_frame(kind, bytes).encode(&mut out);
        if kind & 0x80 != 0 {
            let at = before + usize::from(bytes.u8()) % (out.len() - before);
            out[at] ^= bytes.u8();
        }
    }
    out
}

fn draw_frame(kind: u8, bytes: &mut Bytes<'_>) -> Frame {
    match kind & 0x0f {
        0 => Frame::Hello {
            version: u16::from(bytes.u8()),
            role: match bytes.u8() & 1 {
                0 => Role::Sender,
                _ => Role::Receiver,
            },
            nonce: [bytes.u8(); 16],
        },
        1 => Frame::Welcome {
            version: u16::from(bytes.u8()),
            echo: [bytes.u8(); 16],
            nonce: [bytes.u8(); 16],
        },
        2 | 3 => Frame::Offer {
            size: draw_size(bytes),
            name: draw_text(bytes),
        },
        4 => Frame::Accept,
        5 => Frame::Decline {
            reason: draw_reason(bytes),
            text: draw_text(bytes),
        },
        6..=9 => Frame::Data {
            offset: draw_size(bytes),
            // An empty one is no frame, and ours never makes it.
            bytes: vec![7; 1 + usize::from(bytes.u8())],
        },
        10 | 11 => Frame::End {
            size: draw_size(bytes),
            hash: [bytes.u8(); 32],
        },
        12 => Frame::Verdict {
            outcome: match bytes.u8() % 3 {
                0 => Outcome::Stored,
                1 => Outcome::Mismatch,
                _ => Outcome::NotStored,
            },
            hash: [bytes.u8(); 32],
            text: draw_text(bytes),
        },
        13 => Frame::Bye,
        14 => match bytes.u8() {
            0 => Frame::Wait,
            byte => Frame::Confirm { echo: [byte; 16] },
        },
        _ => Frame::Abort {
            reason: draw_reason(bytes),
            text: draw_text(bytes),
        },
    }
}

/// Small, or near the end of what 64 bits hold.
fn draw_size(bytes: &mut Bytes<'_>) -> u64 {
    match bytes.u8() {
        255 => u64::MAX - u64::from(bytes.u8()),
        small => u64::from(small),
    }
}

fn draw_text(bytes: &mut Bytes<'_>) -> String {
    let len = usize::from(bytes.u8());
    String::from_utf8_lossy(bytes.take(len)).into_owned()
}

fn draw_reason(bytes: &mut Bytes<'_>) -> Reason {
    match bytes.u8() {
        1 => Reason::Interrupted,
        2 => Reason::Exists,
        3 => Reason::UnsafeName,
        4 => Reason::TooLarge,
        5 => Reason::Local,
        6 => Reason::Protocol,
        7 => Reason::Role,
        8 => Reason::Busy,
        9 => Reason::Stalled,
        10 => Reason::TooMany,
        other => Reason::Other(other),
    }
}

/// Decodes in pieces and at once: both see the same frames, and each frame survives a second trip.
fn decode(stream: &[u8], cut: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut pieces = Decoder::default();
    let mut error = None;
    for piece in stream.chunks(cut) {
        pieces.push(piece);
        error = take_all(&mut pieces, &mut frames);
    }
    let mut at_once = Vec::new();
    let mut whole = Decoder::default();
    whole.push(stream);
    assert_eq!(take_all(&mut whole, &mut at_once), error);
    assert_eq!(at_once, frames);
    for frame in &frames {
        second_trip(frame);
    }
    frames
}

/// An error must stay, whatever is asked again.
fn take_all(decoder: &mut Decoder, frames: &mut Vec<Frame>) -> Option<String> {
    loop {
        match decoder.next_frame() {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return None,
            Err(error) => {
                assert_eq!(decoder.next_frame(), Err(error));
                return Some(error.to_string());
            }
        }
    }
}

fn second_trip(frame: &Frame) {
    let text = match frame {
        Frame::Decline { text, .. } | Frame::Verdict { text, .. } | Frame::Abort { text, .. } => {
            assert_eq!(&printable(text), text, "it was made safe already");
            text.as_str()
        }
        _ => "",
    };
    let mut encoded = Vec::new();
    frame.encode(&mut encoded);
    let mut decoder = Decoder::default();
    decoder.push(&encoded);
    let again = decoder.next_frame();
    // Replacing what was unsafe may have made a text longer than a frame may carry.
    if text.len() <= 512 {
        assert_eq!(again, Ok(Some(frame.clone())));
    } else {
        assert!(matches!(again, Ok(Some(_))), "{again:?}");
    }
    assert_eq!(decoder.next_frame(), Ok(None));
}

/// The receiver never takes a byte too many, and no name leaves its folder.
fn receive(frames: &[Frame], mode: u8) {
    let folder = Path::new("folder");
    let mut receiving = Receiving::default();
    let mut file: Option<(u64, u64)> = None;
    for (n, frame) in frames.iter().enumerate() {
        let received = match receiving.on_frame(frame.clone()) {
            Ok(received) => received,
            Err(violation) => {
                assert!(!violation.to_string().is_empty());
                if mode & 2 == 0 {
                    return;
                }
                continue;
            }
        };
        match received {
            Received::Offer { name, raw, size } => {
                assert_eq!(printable(&raw), raw);
                let accepted = (mode >> 2).rotate_left(n as u32 & 7) & 1 == 0;
                if let Ok(name) = &name {
                    let path = name.inside(folder);
                    assert_eq!(path.parent(), Some(folder));
                    assert_eq!(path.file_name(), Some(name.as_str().as_ref()));
                }
                let accepted = accepted && name.is_ok();
                receiving.decided(accepted);
                file = accepted.then_some((0, size));
            }
            Received::Data(bytes) => {
                let (taken, size) = file.as_mut().expect("data without an accepted offer");
                *taken += bytes.len() as u64;
                assert!(taken <= size);
            }
            Received::End(_) => {
                let (taken, size) = file.take().expect("an end without an accepted offer");
                assert_eq!(taken, size);
                receiving.judged();
            }
            Received::Waiting => assert!(file.is_none()),
            Received::Bye | Received::Abort { .. } => {
                for late in frames {
                    assert!(receiving.on_frame(late.clone()).is_err());
                }
                return;
            }
        }
    }
}

/// The sender hears an answer at most once for each question.
fn send(frames: &[Frame], mode: u8) {
    let mut sending = Sending::default();
    for (n, frame) in frames.iter().enumerate() {
        sending = match mode.rotate_left(n as u32 & 7) & 3 {
            0 => Sending::Offered,
            1 => Sending::Ended,
            _ => sending,
        };
        let before = sending;
        match sending.on_frame(frame.clone()) {
            Ok(Answer::Waiting) => assert_eq!(sending, Sending::Offered),
            Ok(_) => assert_eq!(sending, Sending::Quiet),
            Err(_) => assert_eq!(sending, before),
        }
    }
}

//! What administrators can do, one file a group of functions. The functions give and take JSON values and
//! print nothing: command line, API and pages are faces of the same functions.

pub mod data;

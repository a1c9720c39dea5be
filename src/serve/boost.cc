// The functions of Boost.Asio and Boost.Beast, compiled once for all of serve (CMakeLists.txt defines BOOST_ASIO_SEPARATE_COMPILATION and
// BOOST_BEAST_SEPARATE_COMPILATION for the room).
#include <boost/asio/impl/src.hpp>
#include <boost/beast/src.hpp>
